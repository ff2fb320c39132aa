"""One change of a job: a conditional UPDATE against what was seen, whose row count is looked at, and one event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from training import lifecycle
from training.lifecycle import TERMINAL, Answer, JobType, Rule, Status, Stop, StopAt, Verb
from training.models import Artifact, Checkpoint, Event, Metric, TrainingJob
from training.policy import System
from training.services import outbox
from training.services.blocks import forget_blocks


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
) -> None:
    """Apply the rule for `verb` to the job as it was read, or raise Raced. Call it inside a transaction.

    `job` is read again afterwards, so that it shows what is.
    """
    rule = lifecycle.RULES[verb, Status(job.status), Stop(job.stop)]
    write(job, _standing(job, rule, stop_at) | (changes or {}))
    event = add_event(job, kind or str(verb), message, by=by, data=data)
    outbox.announce(job, event, verb)


def write(job: TrainingJob, changes: dict[str, Any]) -> None:
    """The conditional UPDATE: status, stop and attempt must still be as they were read."""
    seen = TrainingJob.objects.filter(
        pk=job.pk, status=job.status, stop=job.stop, stop_at=job.stop_at, attempt=job.attempt
    )
    if seen.update(event_seq=F("event_seq") + 1, updated_at=Now(), **changes) != 1:
        raise Raced
    job.refresh_from_db()


def add_event(
    job: TrainingJob, kind: str, message: str, *, by: Any, data: dict | None = None, seq: int | None = None
) -> Event:
    """Record what happened. The caller has raised event_seq in the same transaction, under the row's lock."""
    return Event.objects.create(
        job=job,
        seq=job.event_seq if seq is None else seq,
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
