"""A database that is slow or away is waited for; the trainer is not blamed for it, and the lease not forgotten."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import OperationalError, transaction

from heimdall.trainer.protocol import EpochDone, Stopped
from tests.support.running import PATIENCE
from tests.support.stored import stored_checkpoint
from training import services
from training.lifecycle import Stop
from training.models import Attempt
from training.runner import report_buffer
from training.runner.loop import NO_STOP
from training.services import Report, StopRequest

pytestmark = pytest.mark.django_db


def test_a_trainer_is_not_stalled_because_the_database_was_slow(training, settings, monkeypatch):
    settings.STALL_SECONDS = 0.2

    def slowly(*_: Any, **__: Any) -> StopRequest:
        time.sleep(0.3)
        return NO_STOP

    monkeypatch.setattr(services, "beat", slowly)
    assert [training.turn() for _ in range(3)] == [False] * 3
    assert not training.trainer.is_killed


def test_the_lease_is_renewed_as_soon_as_the_database_is_back(training, settings, monkeypatch):
    settings.HEARTBEAT_SECONDS = 60
    tried: list[bool] = []

    def away(_: Attempt, report: Report) -> StopRequest:
        tried.append(report.is_again)
        if len(tried) < 3:
            raise OperationalError("the server has said nothing for 62 s")
        return NO_STOP

    monkeypatch.setattr(services, "beat", away)
    monkeypatch.setattr(services, "read_stop_request", lambda _: NO_STOP)
    training.may_have_new_stop = True
    assert not training.turn()
    training.trainer.steps_at_a_time = 0
    until = time.monotonic() + 10 * PATIENCE
    while len(tried) < 3 and time.monotonic() < until:
        assert not training.turn()
    assert tried == [False, True, True]  # not after another 60 s
    assert not training.unreported
    assert not training.unreported.is_unanswered


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("training", [{"stop": "pause", "stop_at": "step"}], indirect=True)
def test_a_trainer_that_was_let_go_is_landed_whatever_is_asked_before_the_next_try(
    training, alice, monkeypatch
):
    """The commit is lost and the pause withdrawn: nobody is left who could go on, so the job is queued."""
    job, land, tries = training.attempt.job, services.land, []
    training.ending = stored_checkpoint(step=4, kinds=("pause",))
    training.stopped = Stopped(step=4, epoch=0)
    training.stop_request, training.stop_sent = StopRequest(Stop.PAUSE, "step"), "step"

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
    assert training.is_over()
    assert tries == [False, True]
    assert training.trainer.received == ["exit"]
    job.refresh_from_db()
    assert (job.status, job.latest_checkpoint.step) == ("queued", 4)


@pytest.mark.django_db(transaction=True)
def test_what_an_outage_left_is_written_in_pieces_and_in_order(training, settings, monkeypatch):
    """One transaction for all of it would keep everybody else from the database, and outlast the lease."""
    settings.HEARTBEAT_SECONDS = 0.05
    monkeypatch.setattr(report_buffer, "MOST_STEPS_AT_ONCE", 10)
    is_away, written, beat = True, [], services.beat

    def beat_in_pieces(attempt: Attempt, report: Report) -> StopRequest:
        if is_away:
            raise OperationalError("the server closed the connection unexpectedly")
        written.append([row["step"] for row in report.steps])
        return beat(attempt, report)

    monkeypatch.setattr(services, "beat", beat_in_pieces)
    training.trainer.steps_at_a_time = 7
    for _ in range(5):
        assert not training.turn()
    training.unreported.epochs.append(EpochDone(14, 1, {"train_loss": 1.0, "val_loss": None}))
    training.unreported.epochs.append(EpochDone(28, 2, {"train_loss": 0.5, "val_loss": None}))
    is_away, training.ask_again_at = False, 0.0
    training.report_all()
    steps = [step for piece in written for step in piece]
    assert steps == list(range(1, 29))
    assert max(map(len, written)) == 10
    closed = training.attempt.job.metric_rows.exclude(epoch_values=None).order_by("step")
    assert [(row.step, row.epoch_values["train_loss"]) for row in closed] == [(14, 1.0), (28, 0.5)]


@pytest.mark.django_db(transaction=True)
def test_a_trainer_that_outruns_an_outage_is_not_listened_to_any_more(training, settings, monkeypatch):
    settings.HEARTBEAT_SECONDS = 0.05
    monkeypatch.setattr(report_buffer, "MOST_STEPS", 10)

    def away(*_: Any, **__: Any) -> StopRequest:
        raise OperationalError("the server closed the connection unexpectedly")

    with monkeypatch.context() as outage:
        outage.setattr(services, "beat", away)
        training.trainer.steps_at_a_time = 6
        for _ in range(6):
            assert not training.turn()
        assert training.trainer.step == 12
        assert len(training.unreported.steps) == 12
    training.ask_again_at = 0.0
    for _ in range(2):
        assert not training.turn()
    assert training.trainer.step > 12
    assert training.attempt.job.metric_rows.count() >= 12


def test_a_log_that_nobody_takes_keeps_its_beginning_and_its_end(monkeypatch):
    monkeypatch.setattr(report_buffer, "MOST_LOG_CHARACTERS", 100)
    kept = report_buffer.ReportBuffer()
    for number in range(1000):
        kept.add_log(f"line {number}\n")
    assert len(kept.log) < 200
    assert kept.log.startswith("line 0\nline 1\n")
    assert kept.log.endswith("line 998\nline 999\n")
    assert kept.log.count("left out") == 1
