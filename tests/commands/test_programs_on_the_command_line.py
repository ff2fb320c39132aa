"""manage.py job submit --program: a folder becomes the code of a job, and what belongs together is asked for."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from training import services
from training.models import TrainingJob

pytestmark = pytest.mark.django_db
SECRET = "correct horse battery"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    (place / "train.py").write_text("import heimdall\n")
    return place


def run(*words, user="root"):
    out = io.StringIO()
    try:
        call_command("job", *map(str, words), "--as", user, "--json", stdout=out, stderr=io.StringIO())
    except CommandError as error:
        return str(error)
    return json.loads(out.getvalue())


def submit(folder, *options, command=("python", "train.py"), user="root"):
    line = ("submit", "--as", user, "--json", "--program", "--folder", folder, *options, "--", *command)
    out = io.StringIO()
    try:
        call_command("job", *map(str, line), stdout=out, stderr=io.StringIO())
    except CommandError as error:
        return str(error)
    return json.loads(out.getvalue())


def test_a_folder_and_a_command_become_a_job(admin_user, folder, monkeypatch):
    monkeypatch.setenv("API_KEY", SECRET)
    job = submit(
        folder, "--set", "epochs=3", "--var", "MODE=fast", "--secret", "API_KEY",
        command=("python", "train.py", "--lr", "3e-4"),
    )  # fmt: skip
    assert (job["job_name"], job["total_epochs"]) == ("python train.py --lr 3e-4", 3)
    assert job["program"]["command"] == ["python", "train.py", "--lr", "3e-4"]
    assert (job["program"]["kind"], job["program"]["variables"]) == ("script", {"MODE": "fast"})
    row = TrainingJob.objects.get()
    assert row.code.names == ["train.py"]
    assert services.opened(row.secrets) == {"API_KEY": SECRET}
    checked = run("check", row.pk, "--steps", 12)
    assert (checked["parent"], checked["program"]["kind"]) == (row.pk, "command")


def test_a_command_says_how_it_is_paused_and_resumed(admin_user, folder):
    job = submit(
        folder, "--checkpoint-folder", "kept", "--resume-argument=--resume", "--pause-signal", "USR1",
        "--metric", "loss=(?P<loss>[0-9.]+)", command=("bash", "go.sh"),
    )  # fmt: skip
    assert job["promise"] == "its own checkpoints"
    assert (job["program"]["resume_arguments"], job["program"]["pause_signal"]) == (["--resume"], "USR1")


def test_what_is_missing_is_named(admin_user, alice, folder, tmp_path, settings):
    assert "set it in this shell first" in submit(folder, "--secret", "NOT_THERE")
    assert "not of the form NAME=VALUE" in submit(folder, "--var", "MODE")
    assert "holds no file 'other.py'" in submit(folder, command=("python", "other.py"))
    assert "is not a folder" in submit(tmp_path / "gone")
    assert "give --program, too" in run("submit", "tiny", "--folder", folder)
    assert "programmers" in submit(folder, user="alice")
    settings.PROGRAMS = False
    assert "HEIMDALL_PROGRAMS=0" in submit(folder)
    assert not TrainingJob.objects.exists()
