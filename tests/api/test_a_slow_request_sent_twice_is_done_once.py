"""Idempotency-Key on forks, extensions and many jobs: nobody waits for the database while files are copied."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from rest_framework.test import APIClient

from tests.support.checkpoint_files import stored
from training.models import Checkpoint, Event, KeptAnswer, TrainingJob
from training.services.idempotency import CLAIM_SECONDS
from training.store.file_system import AtomicFileSystemStorage

JOBS = "/v1/training/jobs"
KEY = "0f9d-first-night"


class HeldStorage(AtomicFileSystemStorage):
    """A store that can be as slow as a test wants it."""

    reached, go_on = threading.Event(), threading.Event()

    def fetch(self, name, target) -> None:
        self.reached.set()
        assert self.go_on.wait(timeout=60)
        super().fetch(name, target)


@pytest.fixture
def store(settings, tmp_path):
    settings.SCRATCH_DIR = tmp_path / "scratch"
    backend = f"{__name__}.{HeldStorage.__name__}"
    options = {"location": tmp_path / "store"}
    settings.STORAGES = settings.STORAGES | {"checkpoints": {"BACKEND": backend, "OPTIONS": options}}
    HeldStorage.reached.clear()
    HeldStorage.go_on.set()
    return tmp_path / "store"


@pytest.fixture
def parent(store, make_job, tmp_path) -> TrainingJob:
    job = make_job(status="completed", step=24, epoch=3, config={"epochs": 3, "lr_scheduler": "constant"})
    stored(job, tmp_path, step=24, epoch=3)
    return job


def send(client: APIClient, job: TrainingJob, verb: str = "fork", **body):
    return client.post(f"{JOBS}/{job.pk}/{verb}", body, format="json", headers={"Idempotency-Key": KEY})


def num_files(store) -> int:
    return sum(path.is_file() for path in store.rglob("*"))


@pytest.mark.django_db
@pytest.mark.parametrize(("verb", "body"), [("fork", {"config": {"epochs": 9}}), ("extend", {"epochs": 2})])
def test_the_second_request_gets_the_first_ones_answer(api, parent, store, verb, body):
    first, second = send(api, parent, verb, **body), send(api, parent, verb, **body)
    assert (first.status_code, second.status_code, second.json()) == (201, 201, first.json())
    assert (second["Location"], second["Idempotent-Replayed"]) == (first["Location"], "true")
    assert (TrainingJob.objects.count(), Checkpoint.objects.count(), num_files(store)) == (2, 2, 2)


@pytest.mark.django_db
def test_a_refused_extension_of_data_keeps_no_answer(api, make_job):
    job = make_job(job_type="synthetic_data", status="completed")
    assert send(api, job, "extend", samples=5).status_code == 409
    assert not KeptAnswer.objects.exists()


@pytest.mark.django_db
def test_a_verb_is_asked_of_many_jobs_once(api, make_job):
    job = make_job()
    ask = {"verb": "pause", "ids": [job.pk]}
    first, second = (
        api.post(f"{JOBS}/bulk", ask, format="json", headers={"Idempotency-Key": KEY}) for _ in range(2)
    )
    assert (first.json()["results"][0]["answer"], second.json()) == ("done", first.json())
    assert second["Idempotent-Replayed"] == "true"
    assert Event.objects.filter(job=job, kind="pause").count() == 1


@pytest.mark.django_db
def test_another_request_with_the_same_key_is_refused(api, parent):
    assert send(api, parent, config={"epochs": 9}).status_code == 201
    refused = send(api, parent, config={"epochs": 8})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert TrainingJob.objects.count() == 2


@pytest.mark.django_db
def test_a_refusal_frees_the_key(api, parent):
    assert send(api, parent, config={"epochs": 2}).status_code == 400
    assert send(api, parent, config={"epochs": 9}).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_a_twin_is_refused_while_the_file_is_copied_and_others_can_write(client_of, alice, parent):
    HeldStorage.go_on.clear()
    answers = {}
    thread = in_a_thread(lambda: answers.update(first=send(client_of(alice), parent, config={"epochs": 9})))
    assert HeldStorage.reached.wait(timeout=60)
    twin = send(client_of(alice), parent, config={"epochs": 9})
    assert (twin.status_code, twin.json()["error"]["code"]) == (409, "request_in_progress")
    assert int(twin["Retry-After"]) > 0
    assert send(client_of(alice), parent, config={"epochs": 8}).status_code == 422
    other = client_of(alice).post(JOBS, {"job_name": "mine", "recipe": "tiny"}, format="json")
    HeldStorage.go_on.set()
    thread.join()
    assert (answers["first"].status_code, other.status_code) == (201, 201)
    assert send(client_of(alice), parent, config={"epochs": 9}).json() == answers["first"].json()
    assert TrainingJob.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_claim_whose_server_died_is_free_later_and_a_slow_one_makes_no_second_job(
    client_of, alice, parent, store
):
    HeldStorage.go_on.clear()
    answers = {}
    thread = in_a_thread(lambda: answers.update(slow=send(client_of(alice), parent, config={"epochs": 9})))
    assert HeldStorage.reached.wait(timeout=60)
    claim = KeptAnswer.objects.get()
    KeptAnswer.objects.update(created_at=claim.created_at - timedelta(seconds=CLAIM_SECONDS + 1))
    HeldStorage.reached.clear()
    again = in_a_thread(lambda: answers.update(again=send(client_of(alice), parent, config={"epochs": 9})))
    assert HeldStorage.reached.wait(timeout=60)  # the second one took the key over, and copies
    HeldStorage.go_on.set()
    thread.join()
    again.join()
    assert (answers["slow"].status_code, answers["again"].status_code) == (409, 201)
    assert "took its place" in answers["slow"].json()["error"]["message"]
    assert (TrainingJob.objects.count(), num_files(store)) == (2, 2)
    assert send(client_of(alice), parent, config={"epochs": 9}).json() == answers["again"].json()


def in_a_thread(act) -> threading.Thread:
    def run() -> None:
        try:
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread
