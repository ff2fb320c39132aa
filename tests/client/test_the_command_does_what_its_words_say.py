"""`heimdall login`, `submit`, `ls`, `pause --wait`, `logs -f`, `get` and the others, against a real server."""

import io
import json
import stat
import subprocess
import sys

import pytest

from heimdall import codec
from heimdall.client import profiles
from heimdall.client.command import exits, tables, watching
from heimdall.client.command.base import as_json_line, printable
from heimdall.client.command.main import main, marked
from heimdall.client.command.plot import drawn

pytestmark = pytest.mark.processes


@pytest.fixture
def heimdall(capsys):
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def asked(heimdall):
    """What a command that must succeed prints with --json: one object a line."""

    def run(*words: object) -> list[dict]:
        code, out, err = heimdall(*words, "--json")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    return run


def test_a_login_is_checked_and_kept_for_nobody_else(heimdall, asked, site, monkeypatch):
    code, _, err = heimdall("ls")
    assert (code, err.count("\n")) == (exits.LOGGED_OUT, 1)
    assert "heimdall login" in err
    code, _, err = heimdall("login", site.url, "--token", "heimdall_" + "0" * 48)
    assert (code, profiles.file().exists()) == (exits.LOGGED_OUT, False)
    assert "wrong, was revoked or has expired" in err

    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert heimdall("login", site.url)[0] == exits.BAD_INPUT
    [who] = asked("login", site.url, "--token", site.token)
    assert (who["username"], who["rights"]) == ("admin", ["read", "report", "act", "submit", "admin"])
    assert stat.S_IMODE(profiles.file().stat().st_mode) == 0o600
    assert stat.S_IMODE(profiles.folder().stat().st_mode) == 0o700
    asked("login", site.url, "--token", site.token, "--name", "second")
    assert [one["profile"] for one in asked("servers") if one["is_current"]] == ["second"]
    assert heimdall("use", "default")[0] == 0
    assert heimdall("logout", "second")[0] == 0
    assert [one["profile"] for one in asked("servers")] == ["default"]
    assert heimdall("--profile", "nowhere", "ls")[0] == exits.LOGGED_OUT


def test_a_job_goes_through_its_life_by_words(heimdall, asked, logged_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ("--set", "device=cpu", "--set", "epochs=3", "--set", "step_seconds=0.02")
    [job] = asked("submit", "tiny", "--name", "caf\u00e9 \U0001f680", "--tag", "words", *settings)
    number = job["id"]
    code, out, err = heimdall("pause", number, "--at", "step", "--wait", "--timeout", "90")
    assert (code, f"Job {number} is paused." in out) == (0, True), err
    assert heimdall("pause", number, "--at", "noon")[0] == exits.BAD_INPUT
    assert heimdall("cancel", number)[0] == exits.REFUSED
    assert heimdall("show", 987_654)[0] == exits.NOT_FOUND
    assert heimdall("wait", number)[0] == exits.PAUSED

    code, out, err = heimdall("resume", number, "--wait", "--timeout", "90")
    assert (code, f"Job {number} is completed." in out) == (0, True), err
    code, out, err = heimdall("logs", number, "-f")
    assert (code, "completed" in err) == (0, True)
    assert heimdall("watch", number)[0] == 0
    assert {one["kind"] for one in asked("watch", number)} >= {"job", "event", "epoch"}

    [row] = asked("ls", "--tag", "words")
    assert (row["job_name"], row["status"]) == ("caf\u00e9 \U0001f680", "completed")
    assert "caf\u00e9 \U0001f680" in heimdall("ls", "--status", "completed")[1]
    lowest_loss = (
        "ls",
        "--where",
        "config.epochs=3",
        "-w",
        "lowest.val_loss<99",
        "--sort",
        "-lowest.val_loss",
    )
    [row] = asked(*lowest_loss, "--tag", "words", "--columns", "id,config.step_seconds")
    assert row == {"id": number, "config.step_seconds": 0.02}
    code, out, _ = heimdall(*lowest_loss, "--columns", "id,lowest.val_loss")
    assert (code, out.split()[:2]) == (0, ["ID", "lowest.val_loss"])
    assert heimdall("ls", "--where", "config.epochs<many")[0] == exits.BAD_INPUT
    assert heimdall("ls", "--tag", "words", "--export", "jobs.csv", "--columns", "id,config.epochs")[0] == 0
    assert (tmp_path / "jobs.csv").read_text().splitlines() == ["id,config.epochs", f"{number},3"]
    assert heimdall("ls", "--export", "jobs.xls")[0] == exits.BAD_INPUT
    assert sorted(path.name for path in tmp_path.glob("*jobs*")) == ["jobs.csv"]

    assert asked("show", number)[0]["id"] == number
    assert "final" in heimdall("checkpoints", number)[1]

    [got] = asked("get", number, "--checkpoint", "best")
    assert codec.verify(tmp_path / got["file"]).digest == got["digest"]
    assert heimdall("verify", got["file"])[0] == 0
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 100)
    assert heimdall("verify", got["file"], "bad.safetensors")[0] == 1

    assert "replays of job" in heimdall("replay", number, "--stretches", 1)[1]
    assert heimdall("certificate", number, "-o", "certificate.json")[0] == 0
    [said] = asked("verify", "certificate.json", got["file"])
    assert (said["is_good"], said["summary"]["is_complete"]) == (True, True)
    assert heimdall("verify", "certificate.json", "bad.safetensors")[0] == 1
    assert heimdall("verify", "certificate.json", "--key", "A" * 43 + "=")[0] == 1
    assert heimdall("verify", "certificate.json", "--key", "none")[0] == exits.BAD_INPUT
    assert heimdall("verify", got["file"], "--replay")[0] == exits.BAD_INPUT

    [fork] = asked("fork", number, "--carry", "weights", "--set", "epochs=1", "--wait")[:1]
    assert fork["parent"] == number
    [compared] = asked("compare", number, fork["id"])
    assert compared["differ"]["config.epochs"] == [3, 1]
    assert asked("wait", fork["id"])[0]["status"] == "completed"
    assert asked("delete", fork["id"]) == [{"id": fork["id"], "deleted": True}]


def test_a_terminal_shows_colors_and_the_curve_as_it_grows(heimdall, asked, logged_in, monkeypatch):
    for module in (tables, watching):
        monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")
    [job] = asked("submit", "tiny", "--name", "shown", "--set", "device=cpu", "--set", "step_seconds=0.02")
    code, out, _ = heimdall("watch", job["id"])
    assert (code, "loss, steps 1 to" in out, "completed" in out) == (0, True, True)
    code, out, _ = heimdall("ls", "--search", "shown")
    assert (code, "\x1b[32mcompleted" in out) == (0, True)
    assert printable("a \x1b[31m name") == "a \ufffd[31m name"  # an error's text steers no terminal
    said = {"name": "\x9b31m\u202eü", "log": "a\n\x1b[2J"}
    assert as_json_line(said).isprintable()
    assert json.loads(as_json_line(said)) == said


def test_a_curve_is_drawn_between_its_points():
    assert drawn({1: 1.0}, width=60, rows=2, title="loss") == []
    lines = drawn({1: 2.0, 5: 0.0, 9: 2.0, 10: float("nan")}, width=32, rows=2, title="loss")
    assert lines[0].startswith("         2 ")
    assert lines[1].startswith("         0 ")
    assert lines[2].endswith("loss, steps 1 to 9")
    assert all(cell != "\u2800" for cell in (lines[0][12], lines[0][-1], lines[1][12 + 10]))


def test_nodes_the_queue_and_recipes_are_shown(heimdall, asked, logged_in):
    [node] = asked("nodes")
    assert len(node["slots"]) == 2
    assert node["name"] in heimdall("nodes")[1]
    [job] = asked("submit", "tiny", "--pool", "nowhere", "--set", "device=cpu")
    code, out, _ = heimdall("queue")
    assert (code, "pool" in out) == (0, True)
    assert "tiny" in heimdall("recipes")[1]
    assert "step_seconds" in heimdall("recipes", "tiny")[1]
    assert asked("edit", job["id"], "--priority", "3")[0]["priority"] == 3
    assert asked("cancel", job["id"])[0]["status"] == "cancelled"


def test_a_refusal_is_one_sentence_and_with_json_an_object(heimdall, logged_in):
    code, out, err = heimdall("submit", "tiny", "--set", "epochs=-1", "--json")
    assert (code, err.count("\n")) == (exits.BAD_INPUT, 1)
    assert json.loads(out)["error"]["fields"].keys() == {"epochs"}
    code, _, err = heimdall("submit", "tiny", "and", "more")
    assert (code, "behind --" in err) == (exits.BAD_INPUT, True)
    assert heimdall("submit", "tiny", "--set", "epochs")[0] == exits.BAD_INPUT
    assert heimdall("submit", "tiny", "--set", "epochs=-1", "--dry-run")[0] == exits.BAD_INPUT
    code, out, _ = heimdall("submit", "tiny", "--set", "epochs=2", "--dry-run")
    assert (code, "would be accepted" in out, '"epochs": 2' in out) == (0, True, True)
    assert heimdall("sumbit")[0] == exits.UNREADABLE


def test_what_stands_behind_two_dashes_is_a_program():
    assert marked(["submit", "--", "python", "train.py"]) == [
        "submit",
        "--program",
        "--",
        "python",
        "train.py",
    ]
    assert marked(["submit", "wave"]) == ["submit", "wave"]
    assert marked(["show", "--", "7"]) == ["show", "--", "7"]


def test_help_loads_neither_the_network_nor_torch_nor_django():
    code = (
        "import sys\nfrom heimdall.client.command.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'httpx', 'websockets', 'torch', 'django', 'rich', 'pydantic', 'numpy', 'ssl'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
    assert "Queue a recipe" in done.stdout
