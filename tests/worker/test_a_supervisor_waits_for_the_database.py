"""A database that is slow or away is waited for; the trainer is not blamed for it, and the lease not forgotten."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, transaction

from tests.running import PATIENCE
from training import runner, services
from training.checkpoints import StoredCheckpoint
from training.lifecycle import Stop
from training.services import Wish

pytestmark = pytest.mark.django_db
NOTHING_WISHED = Wish(Stop.NONE, "")


class Trainer:
    """Makes a step whenever it is listened to."""

    pid = 1

    def __init__(self) -> None:
        self._waiting = [{"kind": "started", "step": 0}]
        self._step = 0
        self.is_killed = False
        self.told: list[str] = []

    def receive(self, seconds: float) -> dict[str, Any] | None:
        if seconds and not self._waiting:
            self._step += 1
            row = {"step": self._step, "epoch": 1, "loss": 1.0}
            self._waiting.append({"kind": "steps", "rows": [row]})
        return self._waiting.pop(0) if self._waiting else None

    def read_log(self) -> str:
        return ""

    def exit_status(self) -> int | None:
        return None

    def send(self, message: dict[str, Any]) -> None:
        self.told.append(message["kind"])

    def wait(self, seconds: float) -> bool:
        return "exit" in self.told

    def kill(self) -> None:
        self.is_killed = True


@pytest.fixture
def training(make_job, request) -> runner.Training:
    wanted = getattr(request, "param", {})
    attempt = make_job(status="running", **wanted).attempts.select_related("job").get()
    training = runner.Training(runner.Supervision(attempt, slot=0), SimpleNamespace())
    training.trainer = Trainer()
    yield training
    training.storing.close()


def test_a_trainer_is_not_stalled_because_the_database_was_slow(training, settings, monkeypatch):
    settings.STALL_SECONDS = 0.2

    def slowly(*_: Any, **__: Any) -> Wish:
        time.sleep(0.3)
        return NOTHING_WISHED

    monkeypatch.setattr(services, "beat", slowly)
    assert [training._turn() for _ in range(3)] == [False] * 3
    assert not training.trainer.is_killed


def test_the_lease_is_renewed_as_soon_as_the_database_is_back(training, settings, monkeypatch):
    settings.HEARTBEAT_SECONDS = 60
    tried: list[bool] = []

    def away(*_: Any, is_again: bool, **__: Any) -> Wish:
        tried.append(is_again)
        if len(tried) < 3:
            raise OperationalError("the server has said nothing for 62 s")
        return NOTHING_WISHED

    monkeypatch.setattr(services, "beat", away)
    monkeypatch.setattr(services, "wish", lambda _: NOTHING_WISHED)
    training.may_be_wished = True
    until = time.monotonic() + 10 * PATIENCE
    while len(tried) < 3 and time.monotonic() < until:
        assert not training._turn()
    assert tried == [False, True, True]  # not after another 60 s
    assert not training.news
    assert not training.is_unsure


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("training", [{"stop": "pause", "stop_at": "step"}], indirect=True)
def test_a_trainer_that_was_let_go_is_landed_whatever_is_asked_before_the_next_try(
    training, alice, monkeypatch
):
    """The commit is lost and the pause withdrawn: nobody is left who could go on, so the job is queued."""
    job, land, tries = training.attempt.job, services.land, []
    facts = {"digest": "d" * 64, "size": 5, "header_sha256": "f" * 64}
    training.ending = StoredCheckpoint(name="jobs/1/a1/s4", step=4, epoch=0, kinds=("pause",), **facts)
    training.stopped = {"kind": "stopped", "step": 4, "epoch": 0}
    training.wish, training.told = Wish(Stop.PAUSE, "step"), "step"

    def lost_once(*args: Any, **asked: Any) -> services.Landing:
        tries.append(asked["final"])
        if len(tries) > 1:
            return land(*args, **asked)
        with transaction.atomic():
            land(*args, **asked)
            transaction.set_rollback(True)
        services.resume(job, by=alice)
        raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(services, "land", lost_once)
    assert training._is_over()
    assert tries == [False, True]
    assert training.trainer.told == ["exit"]
    job.refresh_from_db()
    assert (job.status, job.latest_checkpoint.step) == ("queued", 4)
