"""Whatever a command is given, it ends with one sentence and an exit code, never with a traceback."""

import io

import pytest
from django.core.management import CommandError, call_command, load_command_class

from training.management import base

COMMANDS = ("certificate", "checkpoint", "job", "localization", "node", "prove", "start", "web", "worker")
NO_TEXT = b"\xff\xfe".decode(errors="surrogateescape")  # as a line of the shell that is not UTF-8 comes in


def refused(*words: str) -> tuple[int, str]:
    """The exit code and the sentence."""
    err = io.StringIO()
    try:
        call_command(*words, stdout=io.StringIO(), stderr=err)
    except CommandError as error:
        return error.returncode, str(error)
    except SystemExit as end:
        return int(end.code or 0), err.getvalue().strip()
    raise AssertionError(f"{words} was not refused")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("job", "list", "--as", NO_TEXT), "is not text in UTF-8"),
        (("job", "submit", "tiny", "--team", NO_TEXT), "is not text in UTF-8"),
        (("node", "show", NO_TEXT), "is not text in UTF-8"),
        (("job", "submit", "tiny", "--timeout", "3"), "give --wait too"),
        (("job", "wait", "1", "--timeout", "nan"), "argument --timeout: Give a number from 0"),
        (("job", "wait", "1", "--timeout", "-1"), "argument --timeout: Give a number from 0"),
        (("job", "edit", "1"), "Say what to change: --name"),
        (("job", "logs", "1", "--after", "-5"), "argument --after: Give a whole number from 0"),
        (("job", "list", "--limit", "0"), "argument --limit: Give a whole number from 1"),
        (("localization", "evaluate", __file__), f"{__file__} is of no use here: "),
        (("localization", "evaluate", __file__, "--threads", "-3"), "argument --threads: Give a whole"),
        (("localization", "generate", "x", "--set", "nope=1"), "nope is not a field of this recipe"),
        (("localization", "generate", "x", "--set", "nope"), "is not of the form FIELD=VALUE"),
        (("bundle", "export", "-5", "x"), "argument job: Give a whole number from 0"),
        (("bundle", "export", "5", "x"), "There is no job 5."),
        (("prove", "--url", "nonsense"), "nonsense is no Heimdall, or no address like http://"),
        (("prove", "--url", "http://[::1"), "is no Heimdall, or no address like http://"),
        (("prove", "--minutes", "nan"), "argument --minutes: Give a number from 0"),
    ],
)
def test_it_says_what_is_wrong(words, sentence, admin_user, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    (tmp_path / "api-token").write_text("token")
    code, said = refused(*words)
    assert code
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_of_several_nodes_all_are_asked_and_the_first_refusal_counts(node, admin_user):
    code, said = refused("node", "drain", "nowhere", node.name)
    assert (code, said) == (base.NOT_FOUND, "node nowhere: There is no node nowhere.")
    node.refresh_from_db()
    assert node.drained_at is not None


def test_a_database_that_breaks_its_sentence_into_lines_is_told_in_one():
    said = base.database_is_away(OSError("connection failed: refused\n\tIs the server running?\n"))
    assert said.startswith("The database is unavailable: connection failed: refused Is the server running?. ")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_has_a_name_that_django_takes_for_itself(name):
    """What `manage.py` reads before any command does: it would be taken for the module of the settings, say."""
    taken = {"--settings", "--pythonpath"}
    parser = load_command_class("training", name).create_parser("manage.py", name)
    verbs = [action for action in parser._actions if isinstance(action.choices, dict)]
    below = [
        option for verb in verbs for one in verb.choices.values() for option in one._option_string_actions
    ]
    assert not taken & set(below)
