"""Where the disk is nearly full, a training goes on without its periodic checkpoints, and its pause is stored."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from heimdall.trainer.protocol import StagedCheckpoint
from tests.support.running import PATIENCE
from training.models import Checkpoint, Event
from training.runner.endings import TrainerSupervision
from training.store import checkpoints
from training.store.checkpoints import StoredCheckpoint

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _store(monkeypatch, settings):
    settings.MIN_FREE_DISK_GB = 1e9  # more than any disk has

    def store(staged: StagedCheckpoint, *, job_id: int, attempt: int) -> StoredCheckpoint:
        return StoredCheckpoint(staged, f"jobs/{job_id}/a{attempt}/s{staged.step}")

    monkeypatch.setattr(checkpoints, "store", store)


def staged(folder: Path, step: int, kind: str) -> StagedCheckpoint:
    path = folder / f"s{step}"
    path.write_bytes(b"state")
    facts = {"digest": "d" * 64, "size": 5, "header_sha256": "f" * 64}
    return StagedCheckpoint(path=str(path), step=step, epoch=0, kinds=(kind,), **facts)


def turn_until(training: TrainerSupervision, is_so) -> None:
    deadline = time.monotonic() + 20 * PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        training.turn()


def test_a_periodic_checkpoint_is_left_out_with_one_event_and_a_pause_is_stored(training, tmp_path, settings):
    files = [staged(tmp_path, step, "periodic") for step in (2, 4)]
    training.trainer.waiting += files
    turn_until(
        training, lambda: training.trainer.received.count("stored") == 2
    )  # the trainer waits for none of them
    assert not any(Path(one.path).exists() for one in files)
    (event,) = Event.objects.filter(kind="checkpoint_left_out")
    assert event.message.startswith("The checkpoint at step 2 was left out: the store has ")
    assert event.message.endswith("(HEIMDALL_MIN_FREE_DISK_GB) only pauses and ends are stored.")
    assert not Checkpoint.objects.exists()

    training.trainer.waiting.append(staged(tmp_path, 6, "pause"))
    turn_until(training, Checkpoint.objects.exists)
    settings.MIN_FREE_DISK_GB = 0.001
    training.trainer.waiting.append(staged(tmp_path, 8, "periodic"))
    turn_until(training, lambda: Checkpoint.objects.count() == 2)
    assert set(Checkpoint.objects.values_list("step", flat=True)) == {6, 8}
