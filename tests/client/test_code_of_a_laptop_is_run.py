"""`heimdall submit -- python train.py` ships the folder's code and runs it; so does `Client.submit_program`."""

import subprocess
import sys

import pytest

from heimdall.client.command import exits
from heimdall.client.command.main import main
from heimdall.code_archive import BadArchive
from heimdall.errors import HeimdallError

pytestmark = pytest.mark.processes

METRIC = r"step=(?P<step>\d+) loss=(?P<loss>[0-9.]+)"
PROGRAM = """
import os, sys
from words import GREETING

print(GREETING, sys.argv[1], os.environ["PLACE"], len(os.environ["HIDDEN"]))
for step in range(3):
    print(f"step={step + 1} loss={1 / (step + 1)}")
"""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "project"
    place.mkdir()
    (place / "train.py").write_text(PROGRAM)
    (place / "words.py").write_text('GREETING = "hello from"\n')
    return place


def test_a_folder_travels_and_its_program_runs(client, logged_in, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HIDDEN", "not to be seen")
    words = [
        "submit",
        "--name",
        "mine",
        "--wait",
        "--timeout",
        "120",
        "--var",
        "PLACE=here",
        "--secret",
        "HIDDEN",
        "--metric",
    ]
    with pytest.raises(SystemExit) as end:
        main([*words, METRIC, "--", "python", "train.py", "laptop"])
    said = capsys.readouterr()
    assert end.value.code == 0, said.out + said.err
    [job] = client.jobs(search="mine", most=1)
    assert "hello from laptop here 14" in job.log()
    assert job.metrics().column("loss") == [1.0, 0.5, pytest.approx(1 / 3)]
    assert job.fields.program["secrets"] == ["HIDDEN"]
    with pytest.raises(HeimdallError, match="lowest val_loss"):
        job.checkpoints["best"]
    assert "not to be seen" not in str(job.fields.raw)
    assert client.upload_code(folder)["digest"] == job.fields.code  # the same code is kept once


def test_what_cannot_travel_is_said_before_anything_is_sent(client, logged_in, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadArchive, match="holds no file"):
        client.submit_program(["python", "train.py"], folder=tmp_path / "empty")
    with pytest.raises(HeimdallError, match="not a folder"):
        client.submit_program(["python", "train.py"], folder=tmp_path / "nowhere")
    monkeypatch.delenv("ABSENT", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["submit", "--secret", "ABSENT", "--", "python", "train.py"])
    assert (end.value.code, "set it in this shell" in capsys.readouterr().err) == (exits.BAD_INPUT, True)


def test_a_dry_run_of_a_program_is_refused_and_queues_nothing(client, logged_in, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = client.jobs(most=1)
    with pytest.raises(SystemExit) as end:
        main(["submit", "--dry-run", "--", "python", "train.py", "laptop"])
    assert (end.value.code, "tries recipes alone" in capsys.readouterr().err) == (exits.BAD_INPUT, True)
    assert [job.id for job in client.jobs(most=1)] == [job.id for job in before]


def test_a_check_is_given_its_options_and_refuses_others(folder):
    def check(*options):
        words = [sys.executable, "-m", "heimdall.client.command.main", "check", *options]
        return subprocess.run(
            [*words, "--", "python", "train.py"], capture_output=True, text=True, timeout=60
        )

    refused = check("--hook", "nonsense", "--seed", "3", "--steps", "5")
    assert (refused.returncode, "invalid choice: 'nonsense'" in refused.stderr) == (2, True)
    refused = check("--sead", "3")
    assert (refused.returncode, "--sead" in refused.stderr) == (exits.UNREADABLE, True)
