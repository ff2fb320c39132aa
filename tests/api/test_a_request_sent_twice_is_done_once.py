"""Idempotency-Key: whoever lost an answer sends the request again, and nothing is done twice."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from rest_framework.test import APIClient

from training import services
from training.lifecycle import Status
from training.models import Event, KeptAnswer, TrainingJob

KEY = "0f9d-first-night"
NEW = {"job_name": "mine", "recipe": "tiny", "config": {"epochs": 2}}
JOBS = "/v1/training/jobs"


def send(client: APIClient, address: str = JOBS, body=None, key: str = KEY):
    return client.post(
        address, NEW if body is None else body, format="json", headers={"Idempotency-Key": key}
    )


@pytest.mark.django_db
def test_the_second_submission_gets_the_first_ones_answer(api):
    first, second = send(api), send(api, body=dict(reversed(NEW.items())))
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert second["Location"] == first["Location"]
    assert ("Idempotent-Replayed" in first, second["Idempotent-Replayed"]) == (False, "true")
    assert TrainingJob.objects.count() == 1


@pytest.mark.django_db
def test_what_was_sent_cannot_be_guessed_from_what_is_kept_without_the_secret_key(
    api, client_of, bob, settings
):
    """A body may hold the secrets of a program."""
    send(api)
    settings.SECRET_KEY = "another one"
    send(client_of(bob))
    assert len(set(KeptAnswer.objects.values_list("request_digest", flat=True))) == 2


@pytest.mark.django_db
def test_without_a_key_or_with_another_one_each_submission_is_a_job(api):
    (
        send(api),
        send(api, key="another"),
        api.post(JOBS, NEW, format="json"),
        api.post(JOBS, NEW, format="json"),
    )
    assert TrainingJob.objects.count() == 4


@pytest.mark.django_db
def test_a_verb_is_done_once(api, make_job):
    job = make_job()
    paused = send(api, f"{JOBS}/{job.pk}/pause", {})
    services.resume(TrainingJob.objects.get(pk=job.pk), by=job.owner)
    again = send(api, f"{JOBS}/{job.pk}/pause", {})
    assert (paused.json()["status"], again.json()) == ("paused", paused.json())
    assert TrainingJob.objects.get(pk=job.pk).status == Status.QUEUED
    assert Event.objects.filter(job=job, kind="pause").count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "body"),
    [(JOBS, NEW | {"priority": 7}), ("{jobs}/{job}/pause", {}), ("{jobs}/{job}/clone", {})],
)
def test_another_request_with_the_same_key_is_refused(api, make_job, address, body):
    send(api)
    refused = send(api, address.format(jobs=JOBS, job=make_job().pk), body)
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "idempotency_key_reused"
    assert "Use a new key" in refused.json()["error"]["message"]
    assert TrainingJob.objects.count() == 2


@pytest.mark.django_db
def test_a_key_is_its_persons_own(api, client_of, bob):
    assert send(api).json()["id"] != send(client_of(bob)).json()["id"]


@pytest.mark.django_db
def test_a_refusal_is_not_kept(api):
    assert send(api, body=NEW | {"config": {"epochs": 0}}).status_code == 400
    assert send(api).status_code == 201


@pytest.mark.django_db
def test_a_key_is_forgotten_after_a_day(api):
    first = send(api)
    KeptAnswer.objects.update(created_at=KeptAnswer.objects.get().created_at - timedelta(days=1, seconds=1))
    assert send(api).json()["id"] != first.json()["id"]
    assert services.forget_answers() == 0
    KeptAnswer.objects.update(created_at=KeptAnswer.objects.get().created_at - timedelta(days=1, seconds=1))
    assert services.forget_answers() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "with space", "x" * 201, "caf\xe9"])
def test_a_key_that_is_none_is_refused(api, key):
    refused = send(api, key=key)
    assert refused.status_code == 400
    assert "Idempotency-Key" in refused.json()["error"]["fields"]
    assert not TrainingJob.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/v1/training/subscriptions", "/v1/training/views"])
def test_where_a_key_would_be_ignored_it_is_refused(api, address):
    refused = send(api, address, {})
    assert refused.status_code == 400
    assert "takes no Idempotency-Key" in refused.json()["error"]["message"]


@pytest.mark.django_db(transaction=True)
def test_of_twins_that_come_together_one_makes_the_job_and_both_get_it(client_of, alice):
    clients = [client_of(alice) for _ in range(6)]
    begin, answers = threading.Barrier(len(clients)), []

    def ask(client: APIClient) -> None:
        begin.wait()
        try:
            answers.append(send(client))
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=[client]) for client in clients]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [answer.status_code for answer in answers] == [201] * len(clients)
    assert len({answer.json()["id"] for answer in answers}) == TrainingJob.objects.count() == 1
