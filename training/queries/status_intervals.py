"""What a job did, as intervals of time: it waited, trained, was paused, came to rest. Read from its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from training.lifecycle import Status, Verb
from training.models import Attempt, Event, TrainingJob

MOST_EVENTS = 2_000
MOST_MARKS = 100
_MOVES = tuple(
    map(
        str,
        (
            Verb.SUBMIT, Verb.CLAIM, Verb.PAUSE, Verb.RESUME, Verb.RESTART, Verb.CANCEL, Verb.DISCARD, Verb.LAND,
            Verb.COMPLETE, Verb.FAIL, Verb.CRASH, Verb.REAP,
        ),
    )
)  # fmt: skip
_WORDS = {Verb.CRASH: "crashed", Verb.REAP: "lost", Verb.FAIL: "failed", Verb.COMPLETE: "completed"}


@dataclass
class StatusInterval:
    """One status from the event that led to it to the event that ended it. `ended_at` is None while it lasts."""

    status: str
    begun_at: datetime
    begun_by: str
    """The verb that led to it."""
    step: int
    attempt: int
    actor: str = ""
    """Who asked for it, where it was a person."""
    ended_at: datetime | None = None
    ended_by: str = ""
    ended_status: str = ""
    ended_step: int = 0
    ended_actor: str = ""
    reached: int | None = None
    """The step that the attempt came to, before any of its steps were given up."""
    node: str = ""

    @property
    def seconds(self) -> float | None:
        return (self.ended_at - self.begun_at).total_seconds() if self.ended_at else None

    @property
    def word(self) -> str:
        """How a training ended, in one word."""
        return _WORDS.get(self.ended_by, "") or (
            self.ended_status if self.ended_status != Status.QUEUED else "stopped"
        )


def status_intervals_of(job: TrainingJob, attempts: Iterable[Attempt] | None = None) -> list[StatusInterval]:
    """In the order in which they were. Of a job with very many events the newest.

    attempts: those that were read already, the newest ones. A interval of an older one does not tell where it ran.
    """
    events = Event.objects.filter(job=job, kind__in=_MOVES).order_by("-seq")[:MOST_EVENTS]
    found: list[StatusInterval] = []
    asked_by = ""
    for event in reversed(events):
        person = event.actor if event.user_id else ""
        if event.kind == Verb.PAUSE:
            asked_by = person
        if found and found[-1].status == event.status and found[-1].attempt == event.attempt:
            continue
        if found:
            _end(found[-1], event, person)
        by = asked_by if event.status == Status.PAUSED else person
        found.append(
            StatusInterval(event.status, event.created_at, event.kind, event.step, event.attempt, by)
        )
    _look_at_attempts(Attempt.objects.filter(job=job) if attempts is None else attempts, found)
    return found


def marks_of(job: TrainingJob) -> list[dict[str, Any]]:
    """What a curve marks: where trainings ended, and when they went on. What was given up is not marked."""
    marks: list[dict[str, Any]] = []
    for interval in status_intervals_of(job):
        if interval.begun_by == Verb.RESTART:
            marks = []
        marks = [mark for mark in marks if mark["step"] <= interval.step]
        if interval.status != Status.RUNNING:
            continue
        if marks and marks[-1]["resumed_at"] is None:
            marks[-1]["resumed_at"] = interval.begun_at.timestamp()
        if interval.ended_at and interval.ended_by != Verb.COMPLETE:
            mark = {"step": interval.ended_step, "word": interval.word, "at": interval.ended_at.timestamp()}
            marks.append(mark | {"resumed_at": None})
    return marks[-MOST_MARKS:]


def _end(interval: StatusInterval, event: Event, person: str) -> None:
    interval.ended_at, interval.ended_by, interval.ended_status = event.created_at, event.kind, event.status
    interval.ended_step, interval.ended_actor = event.step, person


def _look_at_attempts(attempts: Iterable[Attempt], found: list[StatusInterval]) -> None:
    """Where each attempt ran and how far it came; its last event says only where it was taken back to."""
    known = {attempt.number: attempt for attempt in attempts}
    for interval in found:
        if interval.status == Status.RUNNING and interval.attempt in known:
            attempt = known[interval.attempt]
            interval.node, interval.reached = attempt.node_name, attempt.started_step + attempt.steps_executed
