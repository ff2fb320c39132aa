"""The verbs: 202 for a recorded request or a queued job, 200 for done or already so, 409 for refused."""

import pytest

from training.models import TrainingJob

pytestmark = pytest.mark.usefixtures("each_database")


@pytest.fixture
def ask(api):
    def post(job, verb, body=None):
        return api.post(f"/v1/training/jobs/{job.pk}/{verb}", body, format="json")

    return post


def test_a_running_job_notes_the_wish_and_says_when(ask, make_job):
    job = make_job(status="running", epoch=1, step=7, with_checkpoint=True)
    noted = ask(job, "pause")
    assert noted.status_code == 202
    shown = noted.json()
    assert (shown["status"], shown["stop"], shown["answer"]) == (
        "running",
        {"kind": "pause", "at": "epoch"},
        "noted",
    )
    assert "at the end of epoch 2" in shown["message"]
    stronger = ask(job, "pause", {"at": "step"}).json()
    assert (stronger["stop"], stronger["headline"]) == (
        {"kind": "pause", "at": "step"},
        "pausing at the next step",
    )
    assert ask(job, "pause", {"at": "epoch"}).json()["stop"]["at"] == "step"  # never weakened


def test_a_withdrawn_pause_is_done_at_once_and_needs_no_task(ask, make_job):
    job = make_job(status="running", stop="pause", step=5, epoch=1, with_checkpoint=True)
    answer = ask(job, "resume")
    assert answer.status_code == 200
    assert (answer.json()["answer"], answer.json()["stop"], answer.json()["task_id"]) == ("done", None, None)
    assert answer.json()["resumes_from"] == {"epoch": 1, "step": 5}


def test_resume_says_which_task_it_sent_and_where_it_goes_on(ask, make_job):
    job = make_job(status="paused", step=8, epoch=2, with_checkpoint=True)
    answer = ask(job, "resume")
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    assert answer.json()["task_id"]
    assert answer.json()["resumes_from"] == {"epoch": 2, "step": 8}
    again = ask(job, "resume")
    assert again.status_code == 409


def test_asking_twice_is_200_and_changes_nothing(ask, make_job):
    paused, cancelled = make_job(status="paused"), make_job(status="cancelled")
    for job, verb in ((paused, "pause"), (cancelled, "cancel")):
        answer = ask(job, verb)
        assert (answer.status_code, answer.json()["answer"]) == (200, "already")
        assert answer.json()["event_seq"] == job.event_seq


def test_a_refusal_says_what_is_and_what_is_possible(ask, make_job):
    job = make_job(status="running", stop="cancel")
    answer = ask(job, "pause")
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "transition_refused"
    assert (error["status"], error["stop"], error["verbs"]) == (
        "running",
        {"kind": "cancel", "at": "step"},
        [],
    )
    assert error["message"].startswith("Cannot pause a cancelling job")
    done = ask(make_job(status="completed"), "resume").json()["error"]
    assert (done["status"], done["stop"], done["verbs"]) == ("completed", None, ["delete"])


def test_synthetic_data_cannot_be_paused(ask, make_job):
    answer = ask(make_job(status="running", job_type="synthetic_data"), "pause")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "Cannot pause synthetic data generation jobs."


@pytest.mark.parametrize("body", [{"at": "now"}, {"at": None}, {"at": 1}, {"when": "step"}, {"at": ["step"]}])
def test_a_bad_option_is_refused_and_no_wish_is_noted(ask, make_job, body):
    job = make_job(status="running")
    answer = ask(job, "pause", body)
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, list(body))
    assert ask(job, "resume", {"at": "step"}).status_code == 400
    assert TrainingJob.objects.get(pk=job.pk).stop == ""


def test_delete_is_refused_while_the_job_is_active_or_paused(api, make_job):
    for status in ("queued", "running", "paused"):
        job = make_job(status=status)
        answer = api.delete(f"/v1/training/jobs/{job.pk}")
        assert (answer.status_code, answer.json()["error"]["status"]) == (409, status)
