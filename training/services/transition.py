"""One change of a job: a conditional UPDATE against what was seen, whose row count is looked at, and one event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from training import lifecycle
from training.errors import NotFound
from training.lifecycle import TERMINAL, Answer, JobType, Rule, Status, Stop, StopAt, Verb
from training.models import Artifact, Checkpoint, Event, Metric, TrainingJob
from training.policy import System
from training.services import outbox
from training.services.blocks import forget_blocks
from training.statements import rows_of, update_and_read


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


def storable(text: str) -> str:
    """PostgreSQL stores no NUL, and no database half of a surrogate pair."""
    return text.replace("\x00", "\\0").encode(errors="backslashreplace").decode()


def start_again(job: TrainingJob) -> dict[str, Any]:
    """The changes that put a stopped job back into the queue."""
    return {
        "queued_at": Now(),
        "not_before": None,
        "completed_at": None,
        "error_code": "",
        "error_message": "",
    }


def to_checkpoint(job: TrainingJob, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The changes that take the job's progress back to a checkpoint, or to step 0.

    Metrics beyond it are deleted here. An epoch that the checkpoint had not closed loses its values, for the
    resumed training validates it again. The finished shards of a synthetic-data job stay.
    """
    if job.job_type == JobType.SYNTHETIC_DATA:
        return {}
    step, epoch = (checkpoint.step, checkpoint.epoch) if checkpoint else (0, 0)
    if (job.current_step, job.current_epoch) == (step, epoch) and not _has_more_than(job, step, epoch):
        return {}
    rows = Metric.objects.filter(job_id=job.pk)
    if job.current_step > step or rows.filter(step__gt=step).exists():
        rows.filter(step__gt=step).delete()
        forget_blocks(job, after=step)
    rows.filter(epoch__gt=epoch, epoch_values__isnull=False).update(epoch_values=None)
    Artifact.objects.filter(job_id=job.pk, epoch__gt=epoch).delete()
    return {"current_step": step, "current_epoch": epoch} | _newest_values(job, epoch)


def rolled_back(job: TrainingJob, checkpoint: Checkpoint | None) -> bool:
    """Whether going on from the checkpoint repeats steps that were counted."""
    return job.job_type == JobType.TRAINING and job.current_step > (checkpoint.step if checkpoint else 0)


def _has_more_than(job: TrainingJob, step: int, epoch: int) -> bool:
    """Whether anything was written for the job that a training at this place has not done."""
    ((found,),) = rows_of((_MORE_THAN, (job.pk, step, job.pk, epoch, job.pk, epoch)))
    return bool(found)


_MORE_THAN = """
SELECT EXISTS (SELECT 1 FROM training_metric WHERE job_id = %s AND step > %s)
    OR EXISTS (SELECT 1 FROM training_metric WHERE job_id = %s AND epoch > %s AND epoch_values IS NOT NULL)
    OR EXISTS (SELECT 1 FROM training_artifact WHERE job_id = %s AND epoch > %s)
"""


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


def _newest_values(job: TrainingJob, epoch: int) -> dict[str, Any]:
    """The job's losses and best values as they stood after `epoch` epochs."""
    closed = Metric.objects.filter(job_id=job.pk, epoch__lte=epoch, epoch_values__isnull=False).order_by(
        "step"
    )
    values = [(row_epoch, dict(row or {})) for row_epoch, row in closed.values_list("epoch", "epoch_values")]
    return newest_of(values[-1][1] if values else {}) | _best_of(values)


def newest_of(values: dict[str, Any]) -> dict[str, Any]:
    """The job's columns for an epoch's values: the losses by themselves, the recipe's own in `metrics`."""
    own = {
        name: value
        for name, value in values.items()
        if name not in {"train_loss", "val_loss", "learning_rate"}
    }
    return {"train_loss": values.get("train_loss"), "val_loss": values.get("val_loss"), "metrics": own}


def _best_of(values: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    with_loss = [(row["val_loss"], epoch) for epoch, row in values if row.get("val_loss") is not None]
    if not with_loss:
        return {"best_epoch": None, "best_val_loss": None}
    loss, epoch = min(with_loss)  # ties go to the earliest
    return {"best_epoch": epoch, "best_val_loss": loss}
