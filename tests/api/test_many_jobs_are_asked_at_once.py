"""POST /v1/training/jobs/bulk: one verb, many jobs, and of each what became of it."""

import pytest

from tests.conftest import give_checkpoint
from training import services
from training.lifecycle import USER_VERBS
from training.models import Event, TrainingJob

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(api):
    return lambda **body: api.post("/v1/training/jobs/bulk", body, format="json")


@pytest.fixture
def status_of():
    return lambda job: TrainingJob.objects.get(pk=job.pk).status


def test_each_is_asked_by_itself_and_answers_as_alone(ask, make_job, bob, mallory):
    queued, running, done = make_job(), make_job(status="running"), make_job(status="completed")
    bobs, hidden = make_job(status="paused", owner=bob), make_job(owner=mallory, team=None)
    jobs = [queued, running, done, bobs, hidden]
    answer = ask(verb="pause", ids=[job.pk for job in jobs], at="step")
    told = answer.json()
    assert (answer.status_code, told["num_done"], told["num_refused"], told["more"]) == (200, 3, 2, False)
    assert [result["id"] for result in told["results"]] == [job.pk for job in jobs]
    assert [result["answer"] for result in told["results"]] == ["done", "noted", None, "already", None]
    refused, unseen = told["results"][2], told["results"][4]
    assert (refused["error"]["code"], refused["error"]["verbs"]) == ("transition_refused", ["delete"])
    assert refused["message"].startswith("Cannot pause a completed job")
    assert (unseen["error"]["code"], unseen["message"]) == ("not_found", f"There is no job {hidden.pk}.")
    running.refresh_from_db()
    assert (running.stop, running.stop_at) == ("pause", "step")


def test_what_one_may_not_do_is_refused_for_that_job_alone(ask, make_job, bob, status_of):
    mine, bobs = make_job(status="failed"), make_job(status="failed", owner=bob)
    told = ask(verb="restart", ids=[bobs.pk, mine.pk]).json()
    assert [result["error"] and result["error"]["code"] for result in told["results"]] == [
        "not_allowed",
        None,
    ]
    assert (status_of(bobs), status_of(mine)) == ("failed", "queued")


def test_a_query_finds_them_as_the_list_does_and_each_event_says_who(ask, make_job, mallory, status_of):
    nightly = [make_job() for _ in range(2)]
    for job in nightly:
        services.edit(job, by=job.owner, tags=["nightly"])
    other, hidden = make_job(), make_job(owner=mallory, team=None)
    told = ask(verb="cancel", query="tags=nightly&owner=me").json()
    assert sorted(result["id"] for result in told["results"]) == [job.pk for job in nightly]
    assert {status_of(job) for job in nightly} == {"cancelled"}
    assert (status_of(other), status_of(hidden)) == ("queued", "queued")
    assert set(Event.objects.filter(kind="cancel").values_list("actor", flat=True)) == {"alice"}


def test_jobs_whose_state_the_verb_cannot_change_are_not_among_those_of_a_query(ask, make_job):
    make_job(status="completed")
    failed = make_job(status="failed")
    assert [result["id"] for result in ask(verb="resume", query="").json()["results"]] == [failed.pk]
    assert ask(verb="resume", query="status=completed").json()["results"] == []


def test_more_than_fit_at_once_are_told_of(ask, make_job, monkeypatch):
    monkeypatch.setattr(services, "MOST_AT_ONCE", 2)
    for _ in range(3):
        make_job()
    assert [ask(verb="cancel", query="").json()["more"] for _ in range(2)] == [True, False]
    assert not TrainingJob.objects.exclude(status="cancelled").exists()


def test_deleted_ones_are_gone_with_their_files(ask, make_job):
    jobs = [make_job(status="completed"), make_job(status="failed")]
    give_checkpoint(jobs[0], step=0, epoch=0)
    told = ask(verb="delete", ids=[job.pk for job in jobs]).json()
    assert [result["answer"] for result in told["results"]] == ["done", "done"]
    assert not TrainingJob.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"verb": "pause"}, "ids"),
        ({"verb": "pause", "ids": [1], "query": ""}, "ids"),
        ({"verb": "pause", "ids": []}, "ids"),
        ({"verb": "pause", "ids": [0]}, "ids.0"),
        ({"verb": "pause", "ids": [1] * (services.MOST_AT_ONCE + 1)}, "ids"),
        ({"verb": "claim", "ids": [1]}, "verb"),
        ({"verb": "cancel", "ids": [1], "at": "step"}, "at"),
        ({"verb": "cancel", "query": "stauts=queued"}, "query"),
        ({"verb": "cancel", "query": "status=tired"}, "query"),
        ({"verb": "cancel", "ids": [1], "sure": True}, "sure"),
    ],
)
def test_bad_input_names_the_field_and_asks_nobody(ask, make_job, body, field):
    make_job()
    answer = ask(**body)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["fields"]
    assert not Event.objects.exists()


def test_it_is_a_verb_for_people_who_are_known_and_bounded_like_one(client_of, alice, make_job, settings):
    assert client_of(None).post("/v1/training/jobs/bulk", {}, format="json").status_code == 401
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"DEFAULT_THROTTLE_RATES": {"verbs": "1/min"}}
    body = {"verb": "pause", "ids": [make_job().pk]}
    statuses = [
        client_of(alice).post("/v1/training/jobs/bulk", body, format="json").status_code for _ in range(2)
    ]
    assert statuses == [200, 429]


def test_every_verb_of_the_buttons_can_be_asked(ask, make_job):
    job = make_job()
    for verb in USER_VERBS:
        assert ask(verb=str(verb), ids=[job.pk]).status_code == 200
