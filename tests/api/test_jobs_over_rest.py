"""Submitting, reading, changing and deleting jobs."""

import math

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from training.models import TrainingJob

FIELDS = {
    "id",
    "job_name",
    "description",
    "job_type",
    "recipe",
    "status",
    "stop",
    "config",
    "current_epoch",
    "total_epochs",
    "current_step",
    "progress_percent",
    "eta_seconds",
    "train_loss",
    "val_loss",
    "metrics",
    "learning_rate",
    "best_epoch",
    "best_val_loss",
    "error_message",
    "created_at",
    "started_at",
    "completed_at",
    "verbs",
    "owner",
    "team",
    "priority",
    "phase",
    "attempt",
    "total_steps",
    "parent",
    "checkpoint",
    "approximate",
    "environment",
    "headline",
    "event_seq",
}


def submit(api, **fields):
    body = {"job_name": "mine", "recipe": "tiny", "config": {"epochs": 2}} | fields
    return api.post("/v1/training/jobs", body, format="json")


def test_a_submitted_job_is_queued_and_can_be_read_where_location_says(api):
    answer = submit(api)
    assert answer.status_code == 201, answer.content
    job = answer.json()
    assert (job["status"], job["answer"], job["total_epochs"]) == ("queued", "noted", 2)
    assert job["config"]["batch_size"] == 32  # defaults are filled in
    assert job["task_id"]
    shown = api.get(answer["Location"]).json()
    assert set(shown) >= FIELDS
    assert shown.items() <= job.items()


def test_a_job_can_be_given_to_a_team_of_ones_own_and_to_no_other(api, alice, mallory):
    assert submit(api, team="radio").json()["team"] == "radio"
    for name in ("nobody", "x" * 150):
        refused = submit(api, team=name)
        assert (refused.status_code, list(refused.json()["error"]["fields"])) == (400, ["team"])


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"job_name": ""}, "job_name"),
        ({"job_name": "  "}, "job_name"),
        ({"job_name": "a\nb"}, "job_name"),
        ({"job_name": "a\n"}, "job_name"),
        ({"job_name": 5}, "job_name"),
        ({"job_name": "x" * 201}, "job_name"),
        ({"recipe": "no such"}, "recipe"),
        ({"recipe": None}, "recipe"),
        ({"config": []}, "config"),
        ({"config": None}, "config"),
        ({"config": {"epochs": 0}}, "epochs"),
        ({"config": {"epochs": 10**400}}, "epochs"),
        ({"config": {"epochs": "3"}}, "epochs"),
        ({"config": {"epoch": 3}}, "epoch"),
        ({"config": {"epochs": 3, "warmup_epochs": 4}}, "warmup_epochs"),
        ({"description": "\x07"}, "description"),
        ({"priority": 101}, "priority"),
        ({"priority": 10**30}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 0.5}, "priority"),
        ({"jobname": "x"}, "jobname"),
    ],
)
def test_a_bad_field_is_refused_by_its_name_and_nothing_is_queued(api, changed, field):
    answer = submit(api, **changed)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert list(error["fields"]) == [field]
    assert error["code"] in {"invalid", "invalid_config", "unknown_recipe"}
    assert error["message"]
    assert not TrainingJob.objects.exists()


def test_name_description_and_priority_can_be_changed_and_nothing_else(api, make_job):
    job = make_job(status="running")
    url = f"/v1/training/jobs/{job.pk}"
    changed = api.patch(
        url, {"job_name": "b", "description": "two\nlines", "priority": -3}, format="json"
    ).json()
    assert (changed["job_name"], changed["description"], changed["priority"]) == ("b", "two\nlines", -3)
    assert api.patch(url, {}, format="json").json()["job_name"] == "b"
    for field in ("status", "config", "stop", "owner"):
        refused = api.patch(url, {field: "x"}, format="json")
        assert (refused.status_code, list(refused.json()["error"]["fields"])) == (400, [field])


def test_a_finished_job_can_be_deleted_and_is_gone(api, make_job):
    job = make_job(status="completed")
    url = f"/v1/training/jobs/{job.pk}"
    answer = api.delete(url)
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.get(url).status_code == 404
    assert api.delete(url).status_code == 404


def test_numbers_that_are_not_finite_are_null(api, make_job):
    job = make_job(status="completed")
    TrainingJob.objects.filter(pk=job.pk).update(
        train_loss=math.inf, val_loss=-math.inf, best_val_loss=math.inf, metrics={"rmse": None}
    )
    shown = api.get(f"/v1/training/jobs/{job.pk}").json()
    assert (shown["train_loss"], shown["val_loss"], shown["best_val_loss"]) == (None, None, None)


def ids(api, query=""):
    return [job["id"] for job in api.get(f"/v1/training/jobs{query}").json()["results"]]


def test_lists_are_filtered_searched_and_ordered(api, client_of, bob, make_job):
    first = make_job(status="completed", job_name="beam A", priority=5).pk
    second = make_job(status="paused", job_name="other", description="a BEAM too").pk
    third = make_job(job_type="synthetic_data", owner=bob, parent_id=first).pk
    assert ids(api) == [third, second, first]
    assert ids(api, "?status=paused") == [second]
    assert ids(api, "?status=paused,completed") == [second, first]
    assert ids(api, "?status=paused&status=completed&ordering=id") == [first, second]
    assert ids(api, "?job_type=synthetic_data") == [third]
    assert ids(api, "?recipe=tiny&ordering=-priority") == [first, second]
    assert ids(api, "?owner=bob") == [third]
    assert ids(api, "?team=radio&ordering=job_name") == [third, first, second]
    assert ids(api, f"?parent={first}") == [third]
    assert ids(api, "?search=beam") == [second, first]
    assert ids(api, f"?search={third}") == [third]
    assert ids(api, "?search=%25") == []
    assert ids(api, "?search=%00") == []


@pytest.mark.parametrize(
    "query",
    [
        "?status=nope",
        "?status=",
        "?stauts=paused",
        "?ordering=password",
        "?ordering=owner__password",
        "?page=0",
        "?page=x",
        "?page=1&page=2",
        "?page_size=201",
        "?page=99999999999999999999",
        "?parent=-1",
        f"?search={'x' * 201}",
    ],
)
def test_a_bad_or_unknown_parameter_is_refused_by_its_name(api, query):
    answer = api.get(f"/v1/training/jobs{query}")
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [query[1:].partition("=")[0]]


def test_pages_lead_to_each_other(api, make_job):
    made = [make_job().pk for _ in range(5)][::-1]
    page = api.get("/v1/training/jobs?page_size=2").json()
    assert set(page) == {"count", "next", "previous", "results"}
    assert (page["count"], page["previous"]) == (5, None)
    seen = []
    while True:
        seen += [job["id"] for job in page["results"]]
        if page["next"] is None:
            break
        page = api.get(page["next"]).json()
    assert seen == made
    assert api.get(page["previous"]).json()["results"]
    assert api.get("/v1/training/jobs?page=4&page_size=2").status_code == 404


def test_a_list_costs_the_same_number_of_queries_however_long_it_is(api, make_job):
    def num_queries():
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert api.get("/v1/training/jobs?page_size=200").status_code == 200
        return len(seen)

    make_job(with_checkpoint=True)
    num_queries()  # the first one notes that the token was used
    few = num_queries()
    for _ in range(20):
        make_job(with_checkpoint=True)
    assert num_queries() == few <= 12  # four of them say why queued jobs wait
