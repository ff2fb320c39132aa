"""A database that is slow or away is waited for; the trainer is not blamed for it, and the lease not forgotten."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError

from training import runner, services
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

    def kill(self) -> None:
        self.is_killed = True


@pytest.fixture
def training(make_job) -> runner.Training:
    attempt = make_job(status="running").attempts.select_related("job").get()
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
    until = time.monotonic() + 10
    while len(tried) < 3 and time.monotonic() < until:
        assert not training._turn()
    assert tried == [False, True, True]  # not after another 60 s
    assert not training.news
    assert not training.is_unsure
