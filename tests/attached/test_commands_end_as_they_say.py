"""How a command ends is how its job ends, and nothing that it started outlives it."""

import os
import signal
import sys

import psutil
import pytest

from heimdall.attached.command import command_environment
from heimdall.trainer.cold import ColdLauncher
from tests.attached.commands import (
    bash,
    command_spec,
    new_mark,
    processes_with,
    python,
    wait_until_none_is_left,
    wait_until_there_are,
)

pytestmark = pytest.mark.processes

# It leaves its session and its parent, twice, and hides its output.
DAEMON = "(setsid bash -c 'setsid sleep 600 & disown; sleep 600' >/dev/null 2>&1 &); "


@pytest.fixture
def mark(tmp_path):
    mark = new_mark(tmp_path)
    yield mark
    wait_until_none_is_left(mark)


def test_an_exit_code_is_a_failure_with_the_last_lines(lead, code):
    led = lead(command_spec(code, bash("echo first; echo it broke >&2; exit 3")))
    failed = led.until("failed")
    assert (failed.code, failed.error) == ("command_failed", "The command ended with exit code 3.")
    assert failed.traceback == "first\nit broke\n"
    assert led.exit_status() == 1


@pytest.mark.parametrize("how", ["kill -SEGV $$", "bash -c 'kill -9 $$'; exit $?"])
def test_a_signal_is_a_crash(lead, code, how):
    led = lead(command_spec(code, bash(how)))
    assert led.exit_status() == 71
    assert not led.of("failed")
    assert "the command was killed by SIG" in led.log


@pytest.mark.parametrize(
    ("words", "fields", "code_of_it", "sentence"),
    [
        (["./missing.sh"], {}, "command_not_found", "Name a file of the code as ./FILE"),
        (["no-such-tool"], {}, "command_not_found", "install the command on the worker"),
        (["./plain.txt"], {}, "command_not_started", "chmod +x"),
        (["./no-program"], {}, "command_not_started", "#!/bin/bash"),
        (["./bad-interpreter"], {}, "command_not_found", "names an interpreter that is not there"),
        (["ls"], {"directory": "nowhere"}, "no_such_directory", "name one that the code holds"),
        (["ls"], {"checkpoint_folder": "."}, "bad_checkpoint_folder", "such as checkpoints"),
        (["ls"], {"checkpoint_folder": "plain.txt"}, "bad_checkpoint_folder", "there is a file of that name"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_cannot_be_started_says_what_to_do(lead, code, words, fields, code_of_it, sentence):
    for name, text, mode in [
        ("plain.txt", "text", 0o644),
        ("no-program", "text", 0o755),
        ("bad-interpreter", "#!/no/such\n", 0o755),
    ]:
        (code / name).write_text(text)
        (code / name).chmod(mode)
    failed = lead(command_spec(code, words, **fields)).until("failed")
    assert failed.code == code_of_it
    assert sentence in failed.error


def test_its_world_is_the_users_and_nothing_of_ours(lead, code, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "ours")
    monkeypatch.setenv("EMAIL_HOST_PASSWORD", "ours")
    prints = (
        "import os, sys; print(sorted(os.environ), os.environ['MINE'], repr(sys.stdin.read()), os.getcwd())"
    )
    (code / "below").mkdir()
    spec = command_spec(code, ["python", "-c", prints], directory="below", variables={"MINE": "42"})
    led = lead(spec, launcher=ColdLauncher())  # which has this very process's environment
    led.until("finished")
    assert f"42 '' {code}/below" in led.log
    for name in ("HEIMDALL", "PYTHONPATH", "PYTHONHASHSEED", "SECRET_KEY", "PASSWORD", "CUBLAS", "OPENBLAS"):
        assert name not in led.log


def test_python_is_the_one_of_its_environment():
    found = command_environment(
        {"PATH": "/bin", "LANG": "C", "FOO": "x", "https_proxy": "p"},
        {"LANG": "de"},
        python="/opt/e/bin/python",
    )
    assert found == {
        "PATH": "/opt/e/bin:/bin", "LANG": "de", "https_proxy": "p", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("who", ["trainer", "warden"])
def test_nothing_outlives_a_killed(lead, code, mark, who, start):
    options = {"launcher": ColdLauncher()} if start == "cold" else {}
    spec = command_spec(code, bash(f"{DAEMON} sleep 600 & echo up; wait"), variables={"MARK": mark})
    led = lead(spec, **options)
    led.until_it_says("up")
    wait_until_there_are(4, mark)
    warden = next(
        child
        for child in psutil.Process(led.trainer.pid).children()
        if "warden.py" in " ".join(child.cmdline())
    )
    os.kill(led.trainer.pid if who == "trainer" else warden.pid, signal.SIGKILL)
    assert led.exit_status() == (-signal.SIGKILL if who == "trainer" else 71)
    wait_until_none_is_left(mark)


def test_what_a_command_leaves_behind_is_ended_with_it(lead, code, mark):
    led = lead(command_spec(code, bash(f"{DAEMON} trap '' TERM; echo done"), variables={"MARK": mark}))
    led.until("finished")
    assert not processes_with(mark)
    assert "what it left behind is ended too" in led.log


def test_a_stop_reaches_what_a_shell_started(lead, code, mark):
    """The shell dies of the signal at once; the program that it started saves, and leaves."""
    saves = "import signal, sys, time\ndef leave(*_): open('kept/at', 'w').write('x'); sys.exit(0)\n"
    saves += "signal.signal(signal.SIGTERM, leave); print('value: 1', flush=True); time.sleep(600)"
    (code / "train.py").write_text(saves)
    fields = {"checkpoint_folder": "kept", "metric_patterns": [r"value: (?P<value>\d+)"]}
    led = lead(
        command_spec(code, bash(f"{sys.executable} train.py; true"), variables={"MARK": mark}, **fields)
    )
    led.until_step(1)
    assert led.stop().step == 1
    assert not processes_with(mark)


def test_a_flood_is_passed_on_and_can_be_stopped(lead, code, mark):
    fields = {"metric_patterns": [r"loss=(?P<loss>\S+)"], "grace_seconds": 0.2, "variables": {"MARK": mark}}
    led = lead(command_spec(code, bash("trap '' TERM; yes loss=nothing-that-is-a-number"), **fields))
    led.until_it_says("loss=")
    assert led.stop().step == 0
    assert not processes_with(mark)


def test_a_flood_of_metrics_leaves_some_out_and_can_be_stopped(lead, code, mark):
    patterns = [r"loss=(?P<loss>\S+)"]
    led = lead(command_spec(code, ["yes", "loss=1"], metric_patterns=patterns, variables={"MARK": mark}))
    led.until_step(5_000)
    assert led.stop().step == 0
    assert not processes_with(mark)
    assert max(len(message.rows) for message in led.of("steps")) <= 1_000


def test_one_that_closes_its_output_trains_on_and_patterns_without_a_match_are_told(lead, code):
    closes = "echo epoch 1; exec >&- 2>&-; sleep 0.3; echo lost > kept/at"
    led = lead(
        command_spec(code, bash(closes), checkpoint_folder="kept", metric_patterns=[r"loss=(?P<loss>\d+)"])
    )
    led.until("finished")
    assert "matched no line of the log" in led.log
    assert not led.rows
    assert (code / "kept/at").read_text() == "lost\n"


def test_lines_of_any_kind_are_read(lead, code):
    prints = (
        "import sys; out = sys.stdout.buffer\n"
        "out.write(b'loss=1.5\\n' + b'x' * 3_000_000 + b'loss=9\\n')\n"
        "out.write(bytes(range(256)) * 50 + b'\\nloss=2.5\\rloss=3.5\\r\\nloss=oops\\n')\n"
        "out.write(b'\\x1b[32mloss=\\x1b[1m4.5\\x1b[0m\\n' + b'a' * 3000 + b'\\nloss=nan\\nloss=5.5')\n"
    )
    patterns = [r"loss=(?P<loss>[0-9.nao]+)", r"^(a+)+(?P<never>b)$"]
    led = lead(command_spec(code, python(prints), metric_patterns=patterns))
    led.until("finished")
    losses = [row["loss"] for row in led.rows]
    assert losses[:4] == [1.5, 2.5, 3.5, 4.5]
    assert str(losses[4]) == "nan"
    assert losses[5:] == [5.5]
    assert [row["step"] for row in led.rows] == [1, 2, 3, 4, 5, 6]
    assert "takes too long for a line" in led.log
