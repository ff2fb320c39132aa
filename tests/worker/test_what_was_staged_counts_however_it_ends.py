"""A checkpoint that is on its way to the store when its attempt ends is stored first; nothing else is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from heimdall.trainer.protocol import Failed, StagedCheckpoint
from tests.support.running import PATIENCE
from training.errors import StorageUnavailable
from training.models import TrainingJob
from training.runner.endings import TrainerSupervision
from training.store import checkpoints
from training.store.checkpoints import StoredCheckpoint

pytestmark = pytest.mark.django_db(transaction=True)
STAGED = StagedCheckpoint(
    path="/nowhere/s4", step=4, epoch=0, kinds=("periodic",), digest="d" * 64, size=5, header_sha256="f" * 64
)


@pytest.fixture
def store(monkeypatch) -> Iterator[threading.Event]:
    """Set when the store has the file."""
    has_it = threading.Event()

    def slowly(staged: StagedCheckpoint, **_: Any) -> StoredCheckpoint:
        if not has_it.wait(30 * PATIENCE):
            raise StorageUnavailable("nobody said that it has it")
        return StoredCheckpoint(staged, "jobs/1/a1/s4")

    monkeypatch.setattr(checkpoints, "store", slowly)
    yield has_it
    has_it.set()


def turns(training: TrainerSupervision, count: int) -> list[bool]:
    return [training.turn() for _ in range(count)]


def until_it_is_over(training: TrainerSupervision) -> TrainingJob:
    deadline = time.monotonic() + 20 * PATIENCE
    while not training.turn():
        assert time.monotonic() < deadline
    return TrainingJob.objects.get()


@pytest.mark.parametrize("training", [{"stop": "cancel"}], indirect=True)
def test_a_cancelled_training_ends_at_once_and_not_with_the_upload(training, store):
    """Else it could go on for ever, where checkpoints are made faster than they are stored."""
    training.trainer.waiting.append(STAGED)
    assert turns(training, 3) == [False] * 3
    assert training.trainer.is_killed
    steps = training.trainer.step
    store.set()
    job = until_it_is_over(training)
    assert (job.status, job.latest_checkpoint.step, training.trainer.step) == ("cancelled", 4, steps)


def test_a_training_that_fails_keeps_the_checkpoint_that_was_made_before(training, store):
    training.trainer.steps_at_a_time = 0
    training.trainer.waiting += [
        STAGED,
        Failed("recipe_error", "ValueError: no"),
    ]
    assert turns(training, 3) == [False] * 3
    store.set()
    job = until_it_is_over(training)
    assert (job.status, job.error_code, job.latest_checkpoint.step) == ("failed", "recipe_error", 4)


def test_a_training_that_stalled_is_told_so_after_its_upload_too(training, store, settings):
    settings.STALL_SECONDS = 0.2
    training.trainer.waiting.append(STAGED)
    training.turn()
    training.trainer.steps_at_a_time = 0
    deadline = time.monotonic() + 10 * PATIENCE
    while not training.trainer.is_killed:
        assert not training.turn()
        assert time.monotonic() < deadline
    store.set()
    job = until_it_is_over(training)
    assert (job.status, job.latest_checkpoint.step) == ("queued", 4)
    assert job.attempts.get().detail.startswith("No progress for 0.2 s: the trainer was killed.")
