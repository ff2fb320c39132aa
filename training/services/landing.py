"""How an attempt ends that came to its end or was asked to stop: landed, completed, handed back."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from django.db import transaction

from training import queue
from training.lifecycle import JobType, Status, Stop, Verb
from training.models import Attempt, TrainingJob
from training.services import exactness, replays
from training.services.checkpoints import NOTHING_RECORDED, add_checkpoint_row
from training.services.clock import in_seconds
from training.services.leases import WORKER, add_to_attempt, close_attempt, end_attempt, lock_held_job, renew
from training.services.reporting import Report, columns_of, write_report
from training.services.rollback import rolled_back, to_checkpoint
from training.services.transition import Raced, move
from training.store.checkpoints import StoredCheckpoint


class Landing(StrEnum):
    """What became of an attempt that stopped."""

    PAUSED = "paused"
    QUEUED = "queued"
    CANCELLED = "cancelled"
    GO_ON = "go_on"  # the stop was withdrawn: nothing was written, the attempt is still open


def land(
    attempt: Attempt,
    stored: StoredCheckpoint | None = None,
    *,
    report: Report | None = None,
    draining: bool = False,
    final: bool = False,
    reason: str = "",
    delay_seconds: float = 0.0,
    when_decided: Callable[[], None] = lambda: None,
) -> Landing:
    """Close an attempt that stopped, by the stop as it is now.

    With no stop left (withdrawn) and neither `draining` nor `final` (the trainer cannot go on), nothing but the
    report is written and the answer is GO_ON. The checkpoint, if there is one, becomes the job's in the same
    transaction.

    when_decided: called with the job's row locked, when the attempt is sure to end whatever is asked for from then
    on. The trainer may leave while the rest is written; should the commit fail, the next try has to be `final`.
    """
    while True:
        try:
            with transaction.atomic():
                job = renew(attempt, columns_of(report, attempt.job)) if report else lock_held_job(attempt)
                is_over = bool(job.stop or draining or final)
                if is_over:
                    when_decided()
                if report:
                    write_report(report, job, attempt)
                return _land(job, attempt, stored, reason, delay_seconds) if is_over else Landing.GO_ON
        except Raced:
            continue


def complete(attempt: Attempt, stored: StoredCheckpoint | None) -> None:
    """The training is finished. Beats every stop and clears it."""

    def act(job: TrainingJob) -> None:
        recorded = add_checkpoint_row(job, attempt, stored) if stored else NOTHING_RECORDED
        changes = recorded.changes | (progress_at(stored) if stored else {})
        sentence = _completion_words(job, changes)
        if job.stop:
            sentence += f" It was at its end before the {job.stop} came."
        move(job, Verb.COMPLETE, by=WORKER, message=sentence, changes=changes, before=recorded.events)
        add_to_attempt(attempt, recorded.facts)
        exactness.note_result(job)
        replays.plan_automatically(job)

    end_attempt(attempt, Verb.COMPLETE, act)


def _completion_words(job: TrainingJob, changes: dict[str, Any]) -> str:
    """A program need not have epochs, nor steps."""
    if job.job_type != JobType.TRAINING:
        return "Completed."
    for name in ("epoch", "step"):
        count = changes.get(f"current_{name}", getattr(job, f"current_{name}"))
        if count or (job.recipe and name == "epoch"):
            return f"Completed after {count} {name}s."
    return "Completed."


def release(attempt: Attempt, *, reason: str, delay_seconds: float) -> Landing:
    """Hand the job back because its checkpoint cannot be read now: queued, and not claimed before the delay."""
    return land(attempt, final=True, reason=reason, delay_seconds=delay_seconds)


def _land(
    job: TrainingJob, attempt: Attempt, stored: StoredCheckpoint | None, reason: str, delay_seconds: float
) -> Landing:
    recorded = add_checkpoint_row(job, attempt, stored) if stored else NOTHING_RECORDED
    changes = dict(recorded.changes)
    if stored:
        if job.current_step > stored.staged.step:  # a command may stand further back than its log
            changes |= to_checkpoint(job, stored.staged)
        changes |= progress_at(stored)
    elif rolled_back(job, job.latest_checkpoint) and job.stop != Stop.CANCEL:
        reason = f"{reason} Rolled back to step {job.latest_checkpoint.step if job.latest_checkpoint else 0}.".strip()
        changes |= to_checkpoint(job, job.latest_checkpoint)
    if delay_seconds and not job.stop:
        changes["not_before"] = in_seconds(delay_seconds)
    sentence = _landing_words(job)
    sentence = f"{sentence} {reason}".strip()
    move(job, Verb.LAND, by=WORKER, message=sentence, changes=changes, before=recorded.events, is_locked=True)
    close_attempt(job, attempt.number, Verb.LAND, detail=reason, **recorded.facts)
    if job.status == Status.QUEUED and not delay_seconds:
        queue.wake()
    return Landing(job.status)


def progress_at(stored: StoredCheckpoint) -> dict[str, Any]:
    """A trainer that stopped stands where its last checkpoint was taken."""
    return {"current_step": stored.staged.step, "current_epoch": stored.staged.epoch}


def _landing_words(job: TrainingJob) -> str:
    if job.stop == Stop.PAUSE:
        return "Paused."
    if job.stop == Stop.CANCEL:
        return "Cancelled."
    return "Preempted: back in the queue." if job.stop == Stop.PREEMPT else "Back in the queue."


def back_to_checkpoint(
    job: TrainingJob,
    verb: Verb,
    message: str,
    *,
    by: Any,
    changes: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Move a job whose attempt left nothing new to its last good checkpoint, and wake a worker if it is queued."""
    start = job.latest_checkpoint
    if rolled_back(job, start):
        message += f" Rolled back to step {start.step if start else 0}."
    move(job, verb, by=by, message=message, changes=to_checkpoint(job, start) | (changes or {}), data=data)
    if job.status == Status.QUEUED:
        queue.wake()
