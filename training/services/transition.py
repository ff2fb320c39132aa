"""One change of a job: a conditional UPDATE against what was seen, whose row count is looked at, and one event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from training import lifecycle
from training.errors import NotFound
from training.lifecycle import TERMINAL, Answer, Rule, Status, Stop, StopAt, Verb
from training.models import Event, TrainingJob
from training.policy import System
from training.services import outbox
from training.services.storable import storable
from training.statements import update_and_read


class Raced(Exception):
    """The job was changed by somebody else since it was read. Nothing was written: read again and decide again."""


@dataclass(frozen=True)
class Result:
    """How a verb ended that was not refused."""

    job: TrainingJob
    answer: Answer
    message: str
    task_id: str | None = None
    resumes_from: dict[str, int] | None = None


def move(
    job: TrainingJob,
    verb: Verb,
    *,
    by: Any,
    message: str,
    kind: str = "",
    stop_at: StopAt = StopAt.NONE,
    changes: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    before: Sequence[Event] = (),
    is_locked: bool = False,
) -> None:
    """Apply the rule for `verb` to the job as it was read, or raise Raced. Call it inside a transaction.

    `job` shows afterwards what is. before: new events of what was done to the job in the same transaction.
    """
    rule = lifecycle.RULES[verb, Status(job.status), Stop(job.stop)]
    all_changes = _standing(job, rule, stop_at) | (changes or {})
    write(job, all_changes, num_events=len(before) + 1, is_locked=is_locked)
    event = new_event(job, kind or str(verb), message, by=by, data=data)
    add_events(job, *before, event)
    outbox.announce(job, event, verb)


def write(job: TrainingJob, changes: dict[str, Any], *, num_events: int = 1, is_locked: bool = False) -> None:
    """The conditional UPDATE: status, stop and attempt must still be as they were read. `job` then shows what is.

    is_locked: this transaction has held the row since it was read, so only what the database computes is news.
    """
    seen = TrainingJob.objects.filter(
        pk=job.pk, status=job.status, stop=job.stop, stop_at=job.stop_at, attempt=job.attempt
    )
    changes = {"event_seq": F("event_seq") + num_events, "updated_at": Now()} | changes
    computed = [name for name, value in changes.items() if hasattr(value, "resolve_expression")]
    written = update_and_read(seen, changes, names=computed if is_locked else None)
    if not written:
        raise Raced
    if is_locked:
        for name, value in changes.items():
            setattr(job, name, getattr(written[0], name) if name in computed else value)
    else:
        for field in TrainingJob._meta.concrete_fields:
            setattr(job, field.attname, getattr(written[0], field.attname))


def add_event(
    job: TrainingJob, kind: str, message: str, *, by: Any, data: dict | None = None, seq: int | None = None
) -> Event:
    """Record what happened. The caller has raised event_seq in the same transaction, under the row's lock."""
    event = new_event(job, kind, message, by=by, data=data)
    event.seq = job.event_seq if seq is None else seq
    event.save(force_insert=True)
    return event


def add_events(job: TrainingJob, *events: Event) -> None:
    """Record new events, the last of which has the number that event_seq was raised to."""
    for seq, event in enumerate(events, start=job.event_seq - len(events) + 1):
        event.seq = seq
    Event.objects.bulk_create(events)


def new_event(job: TrainingJob, kind: str, message: str, *, by: Any, data: dict | None = None) -> Event:
    """What happened to the job as it stands now, not recorded yet and without its number."""
    return Event(
        job=job,
        kind=kind,
        message=storable(message),
        actor=str(by)[:160],
        user=None if isinstance(by, System) else by,
        attempt=job.attempt,
        status=job.status,
        stop=job.stop,
        step=job.current_step,
        epoch=job.current_epoch,
        data=data or {},
    )


def hold(job: TrainingJob) -> None:
    """Keep the job until the transaction ends, for a row that is to refer to it. Raises NotFound where it is gone."""
    rows = TrainingJob.objects.select_for_update(no_key=True).filter(pk=job.pk)
    if not rows.values_list("pk").first():
        raise NotFound(f"There is no job {job.pk}.")


def raise_event_seq(job: TrainingJob) -> None:
    if not TrainingJob.objects.filter(pk=job.pk).update(event_seq=F("event_seq") + 1, updated_at=Now()):
        raise NotFound(f"There is no job {job.pk}.")
    job.refresh_from_db()


def read_job(pk: int, *, lock: bool = False) -> TrainingJob:
    jobs = TrainingJob.objects.select_related("latest_checkpoint", "owner", "team")
    try:
        return (jobs.select_for_update(of=("self",)) if lock else jobs).get(pk=pk)
    except TrainingJob.DoesNotExist:
        raise NotFound(f"There is no job {pk}.") from None


def _standing(job: TrainingJob, rule: Rule, stop_at: StopAt) -> dict[str, Any]:
    status = Status(rule.to_status)
    changes: dict[str, Any] = {
        "status": status,
        "stop": rule.to_stop,
        "stop_at": (stop_at or job.stop_at or StopAt.STEP) if rule.to_stop else StopAt.NONE,
    }
    if status is not Status.RUNNING:
        changes |= {"lease_expires_at": None, "phase": "", "step_seconds": None}
    if status in TERMINAL:
        changes["completed_at"] = Now()
    return changes
