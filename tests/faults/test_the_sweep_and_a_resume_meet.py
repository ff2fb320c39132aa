"""Retention and the sweep of orphans beside resumes, claims and landings, in both orders and at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from django.core.files.base import ContentFile

from heimdall import codec, failpoints
from tests.conftest import build_job
from tests.services.test_races_have_one_winner import at_once, in_turn
from tests.support.staged import staged
from training import services
from training.errors import NoGoodCheckpoint
from training.models import Attempt, Checkpoint, TrainingJob, checkpoint_storage
from training.services import retention
from training.store import checkpoints

pytestmark = pytest.mark.django_db(transaction=True)
torch.set_num_threads(1)
OLD = 10**9  # seconds since 1970


@pytest.fixture(autouse=True)
def _own_store(settings, tmp_path):
    settings.STORAGES = settings.STORAGES | {
        "checkpoints": {
            "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
            "OPTIONS": {"location": tmp_path / "store"},
        }
    }
    yield
    failpoints.configure("")


def store(attempt: Attempt, tmp_path: Path, step: int) -> checkpoints.StoredCheckpoint:
    return checkpoints.store(
        staged(tmp_path, step=step, epoch=0, value=float(step)), job_id=attempt.job_id, attempt=attempt.number
    )


@pytest.fixture
def attempt(make_job, tmp_path) -> Attempt:
    """With checkpoints at the steps 1 to 4; two are kept."""
    job = make_job(status="running", config={"keep_last": 2, "keep_best": 0})
    attempt = Attempt.objects.select_related("job").get(job=job)
    for step in range(1, 5):
        services.record_checkpoint(attempt, store(attempt, tmp_path, step))
    return attempt


def steps() -> list[int]:
    return sorted(Checkpoint.objects.values_list("step", flat=True))


def assert_every_row_has_its_file() -> None:
    for row in Checkpoint.objects.all():
        assert codec.verify(checkpoint_storage().path(row.file.name)).digest == row.digest


def test_a_claim_before_the_retention_keeps_its_start(attempt, alice, node):
    services.pause(attempt.job, by=alice, at="step")
    services.land(attempt)
    services.resume(attempt.job, by=alice)
    claimed = services.claim(node, slot=0, pid=1)
    Attempt.objects.filter(pk=claimed.pk).update(
        started_from=Checkpoint.objects.get(step=1)
    )  # three were bad
    services.retire_checkpoints(attempt.job)
    assert steps() == [1, 3, 4]
    assert_every_row_has_its_file()


def test_a_claim_after_the_retention_starts_from_what_is_kept(attempt, alice, node):
    services.pause(attempt.job, by=alice, at="step")
    services.land(attempt)
    services.retire_checkpoints(attempt.job)
    services.resume(attempt.job, by=alice)
    assert steps() == [3, 4]
    assert services.claim(node, slot=0, pid=1).started_from.step == 4
    assert_every_row_has_its_file()


def test_the_oldest_goes_first(attempt, monkeypatch):
    """So that a job whose newest turns out bad meanwhile goes back to the best that is left."""
    gone = []
    delete = retention._delete_checkpoint
    monkeypatch.setattr(retention, "_delete_checkpoint", lambda row: gone.append(row.step) or delete(row))
    services.retire_checkpoints(attempt.job)
    assert len(gone) > 1
    assert gone == sorted(gone)


def test_at_once_no_job_starts_from_a_checkpoint_that_is_gone(alice, node, tmp_path):
    def meet(order: tuple[str, str], do: Callable) -> tuple:
        job = build_job(owner=alice, status="running", config={"keep_last": 1, "keep_best": 0})
        attempt = Attempt.objects.select_related("job").get(job=job)
        for step in range(1, 4):
            services.record_checkpoint(attempt, store(attempt, tmp_path, step))
        newest = Checkpoint.objects.get(job=job, step=3)
        acts = {
            "retire": lambda: services.retire_checkpoints(job),
            "quarantine": lambda: services.quarantine(attempt, newest, "bad"),
        }
        results = dict(zip(order, do(*[acts[name] for name in order]), strict=True))
        attempt.refresh_from_db()
        job.refresh_from_db()
        assert_every_row_has_its_file()
        assert attempt.started_from == job.latest_checkpoint
        found = results["quarantine"]
        return (
            found.step if isinstance(found, Checkpoint) else type(found),
            job.latest_checkpoint and job.latest_checkpoint.step,
            sorted(Checkpoint.objects.filter(job=job).values_list("step", "quarantine_reason")),
        )

    orders = [("retire", "quarantine"), ("quarantine", "retire")]
    possible = [meet(order, in_turn) for order in orders]
    assert {outcome[0] for outcome in possible} == {NoGoodCheckpoint, 2}
    for number in range(12):
        assert meet(orders[number % 2], at_once) in possible


def test_a_kill_after_the_upload_leaves_a_file_that_the_sweep_takes_later(attempt, tmp_path):
    """The row was never written: the job goes on from the checkpoint before, and no file stays for ever."""
    stored = store(attempt, tmp_path, 9)
    os.utime(checkpoint_storage().path(stored.name), (OLD, OLD))
    assert services.delete_orphaned_files() == []  # its attempt is open: the row may still come
    services.crash(attempt, exit_code=-9)
    assert TrainingJob.objects.get(pk=attempt.job_id).latest_checkpoint.step == 4
    assert services.delete_orphaned_files() == [stored.name]
    assert steps() == [1, 2, 3, 4]
    assert_every_row_has_its_file()


def test_a_kill_between_a_row_and_its_file_leaves_a_file_that_the_sweep_takes_later(attempt, monkeypatch):
    """The row goes first: whatever happens then, no row is without its file."""
    monkeypatch.setattr(checkpoints, "delete_file", lambda name: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        services.retire_checkpoints(attempt.job)
    monkeypatch.undo()
    assert_every_row_has_its_file()
    left = set(checkpoints.stored_names()) - set(Checkpoint.objects.values_list("file", flat=True))
    assert len(left) == 1
    for name in left:
        os.utime(checkpoint_storage().path(name), (OLD, OLD))
    services.complete(attempt, None)
    assert services.delete_orphaned_files() == list(left)


def test_a_landing_and_the_sweep_at_once(alice, tmp_path):
    """The file is stored and looks old; its row is written while the sweep looks at it."""
    for number in range(12):
        job = build_job(owner=alice, status="running", stop="pause")
        attempt = Attempt.objects.select_related("job").get(job=job)
        stored = store(attempt, tmp_path, 5)
        os.utime(checkpoint_storage().path(stored.name), (OLD, OLD))
        acts = [services.delete_orphaned_files, lambda: services.land(attempt, stored)]  # noqa: B023
        results = at_once(*acts[:: 1 if number % 2 else -1])
        assert [result for result in results if isinstance(result, list)] == [[]], results
        assert TrainingJob.objects.get(pk=job.pk).status == "paused"
        assert_every_row_has_its_file()


def test_files_that_are_not_ours_stay(attempt):
    storage = checkpoint_storage()
    name = storage.save("notes/readme.txt", ContentFile(b"x"))
    os.utime(storage.path(name), (OLD, OLD))
    assert services.delete_orphaned_files() == []
