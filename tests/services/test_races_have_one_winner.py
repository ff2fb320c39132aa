"""Two ask at once, on a real database file with a connection each: one conditional UPDATE decides."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections, transaction

from heimdall.errors import InvalidInput
from tests.conftest import build_job
from tests.support.stored import stored_checkpoint
from training import services
from training.errors import NotFound, TransitionRefused
from training.models import Attempt, Checkpoint, Dataset, Event, TrainingJob
from training.store.checkpoints import StoredCheckpoint

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("each_database")]
ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("RACES", "104"))  # with the pairs of verbs and worker steps: 200
ROUNDS_A_JOB = 100  # its whole history is looked at after each


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Run the acts in threads that start together; what each returned, or the error that it raised."""
    barrier, results = threading.Barrier(len(acts)), [None] * len(acts)

    def run(place: int, act: Callable[[], object]) -> None:
        barrier.wait(10)
        try:
            results[place] = act()
        except Exception as error:
            results[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(place, act)) for place, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def assert_whole(job: TrainingJob) -> TrainingJob:
    """The history has no gap, and the row obeys its own constraints and tells the same as its last event."""
    job = TrainingJob.objects.get(pk=job.pk)
    events = list(Event.objects.filter(job=job).order_by("seq"))
    assert [event.seq for event in events] == list(range(1, job.event_seq + 1))
    assert not events or (events[-1].status, events[-1].stop) == (job.status, job.stop)
    job.validate_constraints()
    running = job.status == "running"
    assert Attempt.objects.filter(job=job, ended_at=None).count() == int(running)
    return job


@pytest.mark.timeout(300 + ROUNDS)
def test_two_people_resume_at_once_and_one_is_refused(alice):
    for number in range(ROUNDS):
        if number % ROUNDS_A_JOB == 0:
            job = build_job(owner=alice, status="paused")
        results = at_once(*[lambda: services.resume(job, by=alice)] * 2)  # noqa: B023
        refused = [result for result in results if isinstance(result, TransitionRefused)]
        assert len(refused) == 1, results
        assert refused[0].status == "queued"
        assert assert_whole(job).event_seq == 2 * (number % ROUNDS_A_JOB) + 1
        services.pause(job, by=alice)


@pytest.fixture
def queued(alice) -> list[int]:
    names = [f"job {number}" for number in range(20)]
    return [services.submit(by=alice, job_name=name, recipe="tiny", config={}).job.pk for name in names]


def test_six_supervisors_claim_each_job_once(queued, node):
    def claim_all() -> list[int]:
        return [attempt.job_id for attempt in iter(lambda: services.claim(node, slot=0, pid=1), None)]

    taken = list(itertools.chain(*at_once(*[claim_all] * 6)))
    assert sorted(taken) == queued


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_six_supervisors_in_processes_of_their_own_claim_each_job_once(queued):
    name = connection.settings_dict["NAME"]
    url = f"sqlite:///{name}" if connection.vendor == "sqlite" else os.environ["DATABASE_URL"]
    if connection.vendor != "sqlite":
        url = urlsplit(url)._replace(path=f"/{name}").geturl()
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "heimdall.site.settings"}
    command = [sys.executable, "-m", "tests.services.racers", "6"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    taken = list(itertools.chain(*json.loads(done.stdout)))
    assert sorted(taken) == queued
    assert Attempt.objects.count() == len(queued)


def stored(attempt: Attempt) -> StoredCheckpoint:
    name = f"jobs/{attempt.job_id}/a{attempt.number}/s4-{'0' * 32}.safetensors"
    return stored_checkpoint(name, step=4, epoch=1, kinds=("pause",))


WORKER_STEPS: dict[str, Callable[[Attempt], object]] = {
    "beat": lambda attempt: services.beat(
        attempt, services.Report(steps=[{"step": 5, "epoch": 2, "loss": 1.0}])
    ),
    "record": lambda attempt: services.record_checkpoint(attempt, stored(attempt)),
    "land": lambda attempt: services.land(attempt, stored(attempt)),
    "drain": lambda attempt: services.land(attempt, stored(attempt), draining=True),
    "complete": lambda attempt: services.complete(attempt, stored(attempt)),
    "fail": lambda attempt: services.fail(attempt, code="recipe_error", message="no"),
    "crash": lambda attempt: services.crash(attempt, exit_code=-9),
    # One that lost to a verb leaves it to its next look.
    "reap": lambda attempt: (
        services.reap(attempt, even_if_leased=True) or services.reap(attempt, even_if_leased=True)
    ),
}
PEOPLE: dict[str, Callable] = {
    "pause": lambda job, by: services.pause(job, by=by, at="step"),
    "resume": lambda job, by: services.resume(job, by=by),
    "cancel": lambda job, by: services.cancel(job, by=by),
}


@pytest.mark.parametrize("step", WORKER_STEPS)
def test_every_verb_meets_every_worker_step(alice, node, step):
    """At once they end as one of them would after the other: both answers, and all that the job's row tells."""

    def meet(verb: str, stop: str, order: tuple[str, str], do: Callable) -> tuple:
        job = build_job(owner=alice, step=4, epoch=1, with_checkpoint=True, status="running", stop=stop)
        attempt = Attempt.objects.get(job=job)
        acts = {"person": lambda: PEOPLE[verb](job, alice), "worker": lambda: WORKER_STEPS[step](attempt)}
        results = dict(zip(order, do(*[acts[who] for who in order]), strict=True))
        job = assert_whole(job)
        answers = [told(results[who]) for who in ("person", "worker")]
        return *answers, job.status, job.stop, job.stop_at, job.current_step, job.attempt

    for verb, stop in itertools.product(PEOPLE, ["", "pause", "preempt", "cancel"]):
        orders = [("person", "worker"), ("worker", "person")]
        possible = [meet(verb, stop, order, in_turn) for order in orders]
        for order in orders:
            assert meet(verb, stop, order, at_once) in possible, (verb, stop)


def in_turn(*acts: Callable[[], object]) -> list[object]:
    return [result for act in acts for result in at_once(act)]


def told(result: object) -> tuple[str, object]:
    """What the caller is told, without what differs from job to job."""
    values = {services.Result: lambda: (result.answer, result.job.status, result.job.stop),
              Checkpoint: lambda: result.step}  # fmt: skip
    plain = (services.StopRequest, str, bool, type(None))
    return type(result).__name__, result if isinstance(result, plain) else values.get(type(result), str)()


def test_what_is_asked_when_a_landing_is_decided_finds_the_landed_job(alice, node):
    """The trainer leaves from then on, so a withdrawal must not be able to come in between."""
    job = build_job(owner=alice, status="running", stop="pause", stop_at="step")
    attempt, answers = Attempt.objects.get(job=job), []

    def withdraw() -> None:
        answers.append(services.resume(job, by=alice))
        connections.close_all()

    asker = threading.Thread(target=withdraw)

    def meanwhile() -> None:
        asker.start()
        asker.join(0.2)  # it comes as far as it can

    landing = services.land(attempt, stored(attempt), when_decided=meanwhile)
    asker.join(60)
    assert landing is services.Landing.PAUSED
    assert answers[0].job.status == "queued"
    assert assert_whole(job).latest_checkpoint.step == 4


def test_data_of_one_name_are_submitted_at_once_and_each_has_a_name_of_its_own(alice):
    submit = lambda: services.submit(by=alice, job_name="north", recipe="shards", config={})  # noqa: E731
    results = [result for _ in range(4) for result in at_once(submit, submit, submit)]
    assert all(isinstance(result, services.Result) for result in results), results
    assert Dataset.objects.count() == len(results)


def test_a_dataset_is_deleted_while_a_training_names_it(alice):
    """Either it is gone and nobody reads it, or it is read and stays."""
    config = {"dataset": "north", "samples": 200}
    for _ in range(6):
        dataset = Dataset.objects.create(name="north", recipe="rf_dataset", owner=alice)
        deleted, submitted = at_once(
            lambda: services.delete_dataset(dataset, by=alice),  # noqa: B023
            lambda: services.submit(by=alice, job_name="reads", recipe="localization", config=config),
        )
        if isinstance(submitted, services.Result):
            assert isinstance(deleted, TransitionRefused), deleted
            assert submitted.job.dataset == dataset
            services.cancel(submitted.job, by=alice)
            services.delete_dataset(dataset, by=alice)
        else:
            assert isinstance(submitted, InvalidInput), submitted
            assert deleted is None, deleted


@pytest.mark.parametrize("verb", ["resume", "restart"])
def test_a_dataset_is_deleted_while_the_job_that_wrote_it_goes_on(alice, verb):
    for _ in range(4):
        job = services.submit(by=alice, job_name="north", recipe="shards", config={}).job
        services.cancel(job, by=alice)
        deleted, asked = at_once(
            lambda: services.delete_dataset(job.dataset, by=alice),  # noqa: B023
            lambda: services.VERBS[verb](job, by=alice),  # noqa: B023
        )
        job.refresh_from_db()
        assert (deleted is None) is isinstance(asked, TransitionRefused), (deleted, asked)
        assert (job.status, job.dataset is None) in {("cancelled", True), ("queued", False)}


def test_a_job_is_deleted_while_it_is_cloned(alice):
    for _ in range(6):
        job = build_job(owner=alice, status="completed")
        deleted, cloned = at_once(
            lambda: services.delete(job, by=alice),  # noqa: B023
            lambda: services.clone(job, by=alice),  # noqa: B023
        )
        assert isinstance(deleted, services.Result), deleted
        assert isinstance(cloned, (services.Result, NotFound)), cloned
    assert not TrainingJob.objects.exclude(parent=None).exists()


def test_a_commit_is_on_the_disk_when_it_returns_and_an_update_counts_the_rows_that_it_finds(db):
    asked = {
        "PRAGMA journal_mode": "wal",
        "PRAGMA synchronous": 2,
        "PRAGMA foreign_keys": 1,
        "PRAGMA cache_size": -16000,
    }
    if connection.vendor == "postgresql":
        asked = {"SHOW synchronous_commit": "on"}
    with connection.cursor() as cursor:
        for question, answer in asked.items():
            cursor.execute(question)
            assert cursor.fetchone() == (answer,), question
        if connection.vendor == "postgresql":
            with transaction.atomic():
                cursor.execute("SHOW transaction_isolation")
                assert cursor.fetchone() == ("read committed",)
