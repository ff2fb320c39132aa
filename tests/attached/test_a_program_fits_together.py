"""What is said of a program is used, or refused with the field that it is about."""

import pytest

from heimdall.attached.program import Program
from heimdall.errors import HeimdallError
from heimdall.recipes.registry import checked

PYTHON = ["python", "train.py", "--lr", "0.1"]


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"resume_arguments": ["--resume"]}, "resume_arguments", "name that folder, or leave them out"),
        ({"kind": "script", "checkpoint_folder": "kept"}, "checkpoint_folder", "are for commands"),
        ({"kind": "script", "pause_signal": "USR1"}, "pause_signal", "are for commands"),
        ({"hook": "lightning", "grace_seconds": 5.0}, "grace_seconds", "are for commands"),
        ({"hook": "lightning", "metric_patterns": ["(?P<a>x)"]}, "metric_patterns", "are for commands"),
        ({"hook": "lightning", "kind": "command"}, "hook", "leave out the kind, or the hook"),
        ({"hook": "lightning", "command": ["bash", "x.sh"]}, "hook", "start it as python FILE.py"),
        ({"kind": "script", "command": ["./train"]}, "command", "started as python FILE.py"),
        ({"metric_patterns": ["loss=[0-9]+"]}, "metric_patterns", "write (?P<loss>...)"),
        ({"metric_patterns": ["("]}, "metric_patterns", "no regular expression"),
        ({"directory": "../x"}, "directory", "leads out of the code"),
        ({"variables": {"LD_PRELOAD": "x"}}, "variables", "choose another name"),
        ({"secrets": ["HEIMDALL_KEY"]}, "secrets", "choose another name"),
    ],
)
def test_what_would_mean_nothing_is_refused_by_name(fields, field, sentence):
    with pytest.raises(HeimdallError) as refused:
        checked(Program, {"command": PYTHON} | fields)
    (texts,) = [texts for name, texts in refused.value.fields.items() if name == field]
    assert sentence in texts[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "script"},
        {"hook": "hugging_face"},
        {"resume_arguments": ["--resume"], "checkpoint_folder": "kept", "grace_seconds": 5.0},
    ],
)
def test_a_program_can_be_stored_and_read_again(fields):
    program = checked(Program, {"command": PYTHON} | fields)
    assert checked(Program, program.model_dump(mode="json")) == program
    assert (program.script, program.arguments) == ("train.py", ["--lr", "0.1"])
