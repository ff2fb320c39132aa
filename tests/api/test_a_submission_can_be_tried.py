"""`jobs/try` refuses what a submission refuses, says what it would make, and leaves nothing behind."""

import pytest

from training.models import Event, TrainingJob

NEW = {"job_name": "a", "recipe": "language_model", "config": {"epochs": 3}}


def test_it_says_what_would_be_made_and_makes_nothing(api):
    events = Event.objects.count()
    shown = api.post("/v1/training/jobs/try", NEW, format="json")
    assert shown.status_code == 200
    found = shown.json()
    assert (found["total_epochs"], found["config"]["epochs"], found["waiting"]["code"]) == (3, 3, "no_node")
    assert found["memory_bytes"] > 0
    assert (TrainingJob.objects.count(), Event.objects.count()) == (0, events)


@pytest.mark.parametrize(
    "change", [{"config": {"epochs": -1}}, {"recipe": "none"}, {"priority": 1000}, {"team": "strangers"}]
)
def test_it_refuses_as_the_submission_does(api, change):
    tried = api.post("/v1/training/jobs/try", NEW | change, format="json")
    submitted = api.post("/v1/training/jobs", NEW | change, format="json")
    assert (tried.status_code, tried.json()) == (submitted.status_code, submitted.json())
    assert tried.status_code == 400


def test_it_makes_nothing_twice_so_it_takes_no_key(api):
    answer = api.post("/v1/training/jobs/try", NEW, format="json", headers={"Idempotency-Key": "one"})
    assert answer.status_code == 400


def test_it_says_where_it_would_run_and_about_when(api, node, make_job):
    def tried(**change):
        return api.post("/v1/training/jobs/try", NEW | change, format="json").json()

    found = tried()
    assert (found["waiting"]["code"], found["free_slots"], found["starts_in_seconds"]) == (
        "next", {node.name: node.slots}, 0.0,
    )  # fmt: skip
    running = make_job(status="running", step=40, total_steps=100, step_seconds=0.5)
    running.attempts.update(node=node, slot=0)
    for slot in range(1, node.slots):
        make_job(status="running").attempts.update(node=node, slot=slot)
    found = tried()
    assert (found["waiting"]["code"], found["free_slots"], found["starts_in_seconds"]) == (
        "no_slot", {node.name: 0}, 30.0,
    )  # fmt: skip
    make_job(priority=5)
    assert tried()["starts_in_seconds"] is None
    elsewhere = tried(pool="nowhere")
    assert (elsewhere["free_slots"], elsewhere["starts_in_seconds"]) == ({}, None)
