"""Staged files wait within a bound; the oldest give way, an end never does, and everything lands when it can."""

import threading
import time

import pytest

from heimdall.trainer.protocol import StagedCheckpoint
from tests.storage.conftest import s3_backend, use_store
from tests.storage.servers import Wire
from tests.support.running import PATIENCE
from tests.support.staged import staged
from training.errors import StorageUnavailable
from training.runner.storing import LeftOut, Storing
from training.store import checkpoints, s3
from training.store.checkpoints import StoredCheckpoint

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def wire(settings, s3_addresses, monkeypatch):
    monkeypatch.setattr(s3, "TRIES", 1)
    wire = Wire(s3_addresses("moto"))
    use_store(settings, s3_backend(wire.address, timeout=1))
    yield wire
    wire.close()


@pytest.fixture
def storing(attempt):
    storing = Storing(attempt)
    yield storing
    storing.close()


def add(storing, folder, step, *kinds) -> StagedCheckpoint:
    message = staged(folder, step=step, kinds=kinds or ("periodic",), value=float(step))
    storing.add(message)
    return message


def fail_once(storing) -> list[int]:
    """Let it fail to store; the steps of what was left out meanwhile."""
    before, left_out = storing.failures, []
    deadline = time.monotonic() + 20 * PATIENCE
    while storing.failures == before:
        assert time.monotonic() < deadline
        done = storing.advance()
        left_out += [] if done is None else [done.staged.step]
        time.sleep(0.01)
    return left_out


def settle(storing) -> list[int]:
    """The steps of what is left out now, without a try to store."""
    storing._retry_at = time.monotonic() + 1000
    left_out = []
    while (done := storing.advance()) is not None:
        assert isinstance(done, LeftOut)
        left_out.append(done.staged.step)
    return left_out


def land(storing) -> list[int]:
    """The steps of what is stored, in order, until nothing waits."""
    storing._retry_at, stored = 0.0, []
    deadline = time.monotonic() + 30 * PATIENCE
    while not storing.is_idle:
        assert time.monotonic() < deadline, storing.error
        if isinstance(done := storing.advance(), StoredCheckpoint):
            stored.append(done.staged.step)
        time.sleep(0.01)
    return stored


def test_so_many_wait_and_the_oldest_give_way_to_the_newest(wire, storing, tmp_path, settings):
    settings.STAGING_MAX_FILES = 3
    wire.cut()
    add(storing, tmp_path / "s", 1)
    assert fail_once(storing) == []
    assert "cannot be reached" in storing.error or "closed" in storing.error or "broke" in storing.error
    for step in (2, 3):
        add(storing, tmp_path / "s", step)
    assert settle(storing) == []
    for step in (4, 5):
        add(storing, tmp_path / "s", step)
    assert settle(storing) == [1, 2]
    wire.mode = "pass"
    assert land(storing) == [3, 4, 5]
    assert len(list(checkpoints.stored_names())) == 3


def test_the_best_one_goes_last_of_those_that_may(wire, storing, tmp_path, settings):
    settings.STAGING_MAX_FILES = 2
    wire.cut()
    add(storing, tmp_path / "s", 1, "best")
    fail_once(storing)
    for step in (2, 3, 4):
        add(storing, tmp_path / "s", step)
    assert settle(storing) == [2, 3]


def test_bytes_count_too_and_the_newest_may_be_any_size(wire, storing, tmp_path, settings):
    settings.STAGING_MAX_GB = 1e-6
    wire.cut()
    add(storing, tmp_path / "s", 1)
    fail_once(storing)
    assert settle(storing) == []
    add(storing, tmp_path / "s", 2)
    assert settle(storing) == [1]


def test_an_end_is_kept_and_what_stands_before_it_lets_it_pass(wire, storing, tmp_path, settings):
    wire.cut()
    add(storing, tmp_path / "s", 1)
    fail_once(storing)
    add(storing, tmp_path / "s", 2)
    add(storing, tmp_path / "s", 3, "pause")
    assert settle(storing) == [1, 2]
    wire.mode = "pass"
    assert land(storing) == [3]


def test_a_pause_that_was_withdrawn_is_a_checkpoint_like_others(wire, storing, tmp_path, settings):
    settings.STAGING_MAX_FILES = 2
    wire.cut()
    add(storing, tmp_path / "s", 1, "pause")
    fail_once(storing)
    add(storing, tmp_path / "s", 2, "pause")
    assert settle(storing) == [1]


def test_while_the_wire_is_silent_nobody_waits_for_the_store(wire, storing, tmp_path, settings):
    """What asks every turn of the supervisor's loop returns before the store has answered."""
    settings.STAGING_MAX_FILES = 2
    use_store(settings, s3_backend(wire.address, timeout=300 * PATIENCE))
    wire.mode = "hole"
    answered = threading.Event()
    storing.when_done = answered.set
    for step in (1, 2, 3):
        add(storing, tmp_path / "s", step)
    left_out = [storing.advance() for _ in range(2)]
    assert wire.swallowed.wait(20 * PATIENCE)  # the store was asked, and says nothing
    left_out += [storing.advance() for _ in range(20)]
    assert not answered.is_set()
    assert [done.staged.step for done in left_out if done is not None] == [1]
    wire.cut()
    assert answered.wait(20 * PATIENCE)
    assert storing.advance() is None
    assert storing.failures == 1


def test_after_days_without_an_answer_the_store_is_still_tried(storing, tmp_path, monkeypatch):
    """A delay that doubles at each try outgrows every number within a day."""

    def away(*args, **kwargs):
        raise StorageUnavailable("no route to the store")

    monkeypatch.setattr(checkpoints, "store", away)
    storing.failures = 5_000
    add(storing, tmp_path / "s", 1)
    assert fail_once(storing) == []
    assert (storing.failures, storing.error) == (5_001, "no route to the store")
    assert 25 < storing._retry_at - time.monotonic() <= 30
