"""manage.py job: every verb, the exit codes that docs/commands.md promises, and JSON for scripts."""

import io
import json
import re
import threading
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from training.management.commands import job as command
from training.management.progress import ProgressLine, duration, printable
from training.models import LogChunk, TrainingJob
from training.queries.notifications import watched_jobs


class Ran:
    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    @property
    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(alice):
    def call(*words, user="alice") -> Ran:
        out, err = io.StringIO(), io.StringIO()
        code = 0
        verb, *rest = map(str, words)
        try:
            call_command("job", verb, "--as", user, *rest, stdout=out, stderr=err)
        except CommandError as error:
            code = error.returncode
            err.write(str(error))
        except SystemExit as end:
            code = int(end.code or 0)
        return Ran(code, out.getvalue(), err.getvalue())

    return call


def test_submit_takes_fields_from_a_file_and_from_the_line(run, tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"epochs": 2, "seed": 3}')
    words = (
        "--name",
        "mine",
        "--config",
        file,
        "--set",
        "seed=4",
        "--set",
        "optimizer=sgd",
        "--priority",
        "7",
    )
    ran = run("submit", "tiny", *words, "--team", "radio", "--json")
    assert ran.code == 0
    job = ran.rows[0]
    assert (job["job_name"], job["priority"], job["team"], job["status"]) == ("mine", 7, "radio", "queued")
    assert (job["config"]["epochs"], job["config"]["seed"], job["config"]["optimizer"]) == (2, 4, "sgd")
    assert job["owner"] == "alice"
    assert run("submit", "tiny").out == f"Job {job['id'] + 1} is queued.\n"


@pytest.mark.parametrize(
    "words",
    [
        ("no-such",),
        ("tiny", "--set", "epochs=0"),
        ("tiny", "--set", "epochs"),
        ("tiny", "--set", "epoch=1"),
        ("tiny", "--name", "a\nb"),
        ("tiny", "--config", "/no/such/file"),
        ("tiny", "--priority", "1000"),
        ("tiny", "--team", "nobody"),
    ],
)
def test_bad_input_is_exit_1_in_one_line(run, words):
    ran = run("submit", *words)
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    refused = run("submit", *words, "--json")
    assert refused.rows[0]["error"]["fields"]
    assert not TrainingJob.objects.exists()


def test_show_list_and_checkpoints_print_what_is_there(run, make_job):
    job = make_job(status="paused", job_name="beam", step=8, epoch=2, with_checkpoint=True)
    other = make_job(status="completed")
    assert re.search(rf"^{job.pk} +paused at step 8 .* beam$", run("list").out, re.MULTILINE)
    assert [row["id"] for row in run("list", "--json").rows] == [other.pk, job.pk]
    assert [row["id"] for row in run("list", "--json", "--status", "paused", "--search", "BEAM").rows] == [
        job.pk
    ]
    assert [row["id"] for row in run("list", "--json", "--ordering=id", "--limit", "1").rows] == [job.pk]
    by_column = run("list", "--json", "--ordering=-lowest.val_loss").rows
    assert {row["id"] for row in by_column} == {job.pk, other.pk}
    refused = run("list", "--ordering=colour")
    assert refused.code == 1
    assert "'colour' is not one of: id, job_name," in refused.err
    assert run("list", "--owner", "nobody").out == "No jobs.\n"
    assert run("show", job.pk, "--json").rows[0]["verbs"] == ["resume", "discard"]
    assert re.search("^verbs +.*resume", run("show", job.pk).out, re.MULTILINE)
    assert run("checkpoints", job.pk, "--json").rows[0]["digest"] == job.latest_checkpoint.digest
    assert job.latest_checkpoint.digest[:16] in run("checkpoints", job.pk).out
    assert run("checkpoints", other.pk).out == "No checkpoints.\n"


def test_the_verbs_answer_as_everywhere(run, make_job):
    job = make_job(status="running", step=5, epoch=1, with_checkpoint=True)
    paused = run("pause", job.pk, "--at", "step", "--json").rows[0]
    assert (paused["answer"], paused["stop"]) == ("noted", {"kind": "pause", "at": "step"})
    assert run("resume", job.pk, "--json").rows[0]["answer"] == "done"
    assert run("cancel", job.pk).out == f"Job {job.pk} will be cancelled at its next step.\n"
    refused = run("pause", job.pk, "--json")
    assert refused.code == command.REFUSED
    assert refused.rows[0]["error"]["status"] == "running"
    done = make_job(status="failed")
    assert run("restart", done.pk, "--json").rows[0]["resumes_from"] == {"epoch": 0, "step": 0}
    stopped = make_job(status="paused")
    assert run("discard", stopped.pk, "--json").rows[0]["status"] == "cancelled"
    assert run("delete", stopped.pk, "--json").rows == [
        {"id": stopped.pk, "answer": "done", "message": f"Job {stopped.pk} and its files are deleted."}
    ]


def test_of_several_jobs_all_are_asked_and_the_first_refusal_counts(run, make_job):
    good, done, last = make_job(), make_job(status="completed"), make_job()
    ran = run("pause", good.pk, 999_999, done.pk, last.pk)
    assert ran.code == command.NOT_FOUND
    assert "Cannot pause a completed job" in ran.err
    assert set(TrainingJob.objects.filter(status="paused")) == {good, last}


def test_jobs_are_asked_that_match_as_on_the_list(run, make_job, mallory):
    queued, done = make_job(), make_job(status="completed")
    hidden = make_job(owner=mallory, team=None)
    assert run("cancel", "--matching", "owner=me&status=queued,completed").code == 0
    assert [TrainingJob.objects.get(pk=job.pk).status for job in (queued, done, hidden)] == [
        "cancelled",
        "completed",
        "queued",
    ]
    nothing = run("cancel", "--matching", "status=queued")
    assert (nothing.code, nothing.out) == (0, "")
    assert "No job that matches can be asked to cancel now." in nothing.err
    assert run("cancel", "--matching", "stauts=queued").code == 1
    with pytest.raises(CommandError, match="one of the arguments ID --matching is required"):
        call_command("job", "cancel", "--as", "alice")


def test_who_asks_decides(run, make_job, bob, viewer, mallory, admin_user, monkeypatch):
    job = make_job(status="failed")
    assert run("restart", job.pk, user="bob").code == command.NOT_ALLOWED
    assert run("restart", job.pk, user="mallory").code == command.NOT_FOUND
    assert run("show", job.pk, user="vera").code == 0
    assert run("show", job.pk, user="no such").code == 1
    out = io.StringIO()
    monkeypatch.delenv("HEIMDALL_USER", raising=False)
    call_command("job", "submit", "tiny", "--json", stdout=out)
    assert json.loads(out.getvalue())["owner"] == "root"
    monkeypatch.setenv("HEIMDALL_USER", "bob")
    out = io.StringIO()
    call_command("job", "submit", "tiny", "--json", stdout=out)
    assert json.loads(out.getvalue())["owner"] == "bob"


@pytest.mark.parametrize(
    "words", [(), ("fly",), ("pause",), ("pause", "x"), ("list", "--limit", "-1"), ("show", "9" * 30)]
)
def test_a_line_that_cannot_be_read_is_exit_2(words, db, capsys):
    from django.core.management import execute_from_command_line

    with pytest.raises(SystemExit) as end:
        execute_from_command_line(["manage.py", "job", *words])
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("completed", 0),
        ("failed", command.FAILED),
        ("cancelled", command.CANCELLED),
        ("paused", command.PAUSED),
    ],
)
def test_wait_says_how_it_ended(run, make_job, status, code):
    ran = run("wait", make_job(status=status).pk, "--json")
    assert (ran.code, ran.rows[0]["status"]) == (code, status)


def test_wait_gives_up_in_time_and_the_job_goes_on(run, make_job):
    job = make_job(status="running")
    ran = run("wait", job.pk, "--timeout", "0.05")
    assert ran.code == command.TIMED_OUT
    assert f"job {job.pk}  [....." in ran.err
    assert TrainingJob.objects.get(pk=job.pk).stop == ""


def test_waiting_for_what_was_asked_is_exit_0(run, make_job):
    assert run("pause", make_job().pk, "--wait").code == 0
    assert run("cancel", make_job().pk, "--wait").code == 0
    assert run("discard", make_job(status="paused").pk, "--wait").code == 0


def test_wait_sees_what_another_process_does(transactional_db, run, make_job, monkeypatch):
    job = make_job(status="running")
    looked = threading.Event()
    monkeypatch.setattr(ProgressLine, "show", lambda self, shape: looked.set())

    def complete():
        looked.wait(30)
        TrainingJob.objects.filter(pk=job.pk).update(status="completed", lease_expires_at=None)
        connection.close()

    thread = threading.Thread(target=complete)
    thread.start()
    ran = run("wait", job.pk, "--timeout", "30")
    thread.join()
    assert (ran.code, ran.out) == (0, f"Job {job.pk} is completed.\n")


def test_logs_are_printed_and_followed_until_the_job_is_at_rest(run, make_job):
    job = make_job(status="completed")
    first, second = (LogChunk.objects.create(job=job, attempt=1, text=text) for text in ("one\n", "two\n"))
    assert run("logs", job.pk).out == "one\ntwo\n"
    assert run("logs", job.pk, "-f").out == "one\ntwo\n"
    assert run("logs", job.pk, "--after", first.pk).out == "two\n"
    assert [row["id"] for row in run("logs", job.pk, "--json").rows] == [first.pk, second.pk]


def test_jobs_are_watched_and_no_more(run, make_job, alice, mallory):
    first, second = make_job(status="paused"), make_job(status="paused")
    ran = run("watch", first.pk, second.pk)
    assert (ran.code, ran.out) == (0, f"alice watches job {first.pk}.\nalice watches job {second.pk}.\n")
    assert set(watched_jobs(alice)) == {first, second}
    assert run("unwatch", first.pk, "--json").rows == [{"id": first.pk, "watched": False}]
    assert set(watched_jobs(alice)) == {second}
    assert run("watch", first.pk, user="mallory").code == 5
    assert not watched_jobs(mallory)


def test_the_bar_is_drawn_over_on_a_terminal_and_written_sparsely_elsewhere(make_job, alice):
    from training import queries

    job = queries.job_dict(make_job(status="running", step=0), alice)
    terminal, file = io.StringIO(), io.StringIO()
    for stream, is_terminal in ((terminal, True), (file, False)):
        shown = ProgressLine(stream, is_terminal=is_terminal)
        values = {"train_loss": 0.5, "eta_seconds": 61.0, "total_steps": 9}
        for percent, headline in ((0.0, "running"), (1.0, "validating"), (2.0, "running"), (55.5, "running")):
            shown.show(job | values | {"progress_percent": percent, "headline": headline})
        shown.show(job | values | {"progress_percent": 100.0})
        shown.close()
    assert terminal.getvalue().count("\r") == 5
    assert terminal.getvalue().endswith("\n")
    assert len(file.getvalue().splitlines()) == 3
    assert "[" + "#" * 30 + "] 100.0%" in file.getvalue()
    assert "epoch 0/3  step 0/9  loss 0.5  1 min 01 s left" in file.getvalue()
    assert (duration(5), duration(7300)) == ("5 s", "2 h 01 min")


def test_what_a_job_printed_cannot_command_the_terminal():
    assert printable("a\x1b[2Jb\x9bc\x07\n\td\u00e9") == "a?[2Jb?c?\n\td\u00e9"


def test_the_exit_codes_are_those_of_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    for code in (command.REFUSED, command.NOT_ALLOWED, command.NOT_FOUND, command.TIMED_OUT, 130):
        assert f"\n| {code} | " in text
    ended = f"| {command.FAILED}, {command.CANCELLED}, {command.PAUSED} |"
    assert f"{ended} waited for, and the job is failed, cancelled, paused |" in text
    for verb in (
        "submit",
        "list",
        "show",
        "wait",
        "logs",
        "checkpoints",
        *command.DONE_SAYS,
        *command.WATCH_SAYS,
    ):
        assert f"`{verb}" in text
