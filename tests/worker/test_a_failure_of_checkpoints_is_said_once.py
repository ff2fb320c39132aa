"""A disk that stays full fails every checkpoint alike: people see it once, until it changes or one succeeds."""

from __future__ import annotations

import pytest

from heimdall.trainer.protocol import CheckpointFailed, StagedCheckpoint
from tests.worker.test_below_the_floor_only_ends_are_stored import staged, turn_until
from training.errors import StorageUnavailable
from training.models import Checkpoint, Event
from training.store import checkpoints
from training.store.checkpoints import StoredCheckpoint

pytestmark = pytest.mark.django_db(transaction=True)


def failed(step: int, *kinds: str, error: str = "No space left on device") -> CheckpointFailed:
    return CheckpointFailed(f"[Errno 28] {error}: '/staging/s{step}-1.safetensors'", kinds)


def said() -> list[str]:
    found = Event.objects.filter(kind="checkpoint_failed").order_by("seq")
    return [message.partition(": ")[0] for message in found.values_list("message", flat=True)]


def take(training, *messages: object) -> None:
    training.trainer.waiting += messages
    turn_until(training, lambda: not training.trainer.waiting)


def test_what_cannot_be_written_is_said_once(training, tmp_path, settings):
    settings.MIN_FREE_DISK_GB = 0.001
    take(training, *(failed(step, "periodic") for step in range(2, 40, 2)))
    assert said() == ["A checkpoint (periodic) could not be written"]
    take(training, *(failed(40, "pause") for _ in range(5)))  # a person waits for this one
    take(training, failed(40, "pause", error="Read-only file system"))
    assert said()[1:] == ["A checkpoint (pause) could not be written"] * 2


def test_it_is_said_again_after_one_was_written(training, tmp_path, monkeypatch, settings):
    settings.MIN_FREE_DISK_GB = 0.001
    monkeypatch.setattr(checkpoints, "store", lambda one, **_: StoredCheckpoint(one, f"s{one.step}"))
    take(training, failed(2, "periodic"), staged(tmp_path, 4, "periodic"), failed(6, "periodic"))
    assert len(said()) == 2


def test_a_store_that_stays_away_is_said_once(training, tmp_path, monkeypatch, settings):
    settings.MIN_FREE_DISK_GB = 0.001
    tries = []

    def store(one: StagedCheckpoint, **_: object) -> StoredCheckpoint:
        tries.append(one.step)
        if len(tries) < 4:
            raise StorageUnavailable(f"The bucket cannot be reached (request {len(tries)}).")
        return StoredCheckpoint(one, f"s{one.step}")

    monkeypatch.setattr(checkpoints, "store", store)
    monkeypatch.setattr("training.runner.storing.LONGEST_DELAY_SECONDS", 0.0)
    training.trainer.waiting.append(staged(tmp_path, 2, "periodic"))
    turn_until(training, Checkpoint.objects.exists)
    assert len(tries) == 4
    assert said() == ["A checkpoint could not be stored yet, and is tried again"]
