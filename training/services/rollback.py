"""What changes of a job that is taken back to a checkpoint, or to its beginning."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Now

from heimdall.trainer.protocol import StagedCheckpoint
from training.lifecycle import JobType
from training.models import Artifact, Checkpoint, Metric, TrainingJob
from training.services.column_values import recount_values
from training.services.metrics import forget_blocks
from training.statements import rows_of


def start_again(job: TrainingJob) -> dict[str, Any]:
    """The changes that put a stopped job back into the queue."""
    return {
        "queued_at": Now(),
        "not_before": None,
        "completed_at": None,
        "error_code": "",
        "error_message": "",
    }


def to_checkpoint(job: TrainingJob, checkpoint: Checkpoint | StagedCheckpoint | None) -> dict[str, Any]:
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
    recount_values(job)
    return {"current_step": step, "current_epoch": epoch} | _newest_values(job, epoch)


def rolled_back(job: TrainingJob, checkpoint: Checkpoint | None) -> bool:
    """Whether going on from the checkpoint repeats steps that were counted."""
    return job.job_type == JobType.TRAINING and job.current_step > (checkpoint.step if checkpoint else 0)


_MORE_THAN = """
SELECT EXISTS (SELECT 1 FROM training_metric WHERE job_id = %s AND step > %s)
    OR EXISTS (SELECT 1 FROM training_metric WHERE job_id = %s AND epoch > %s AND epoch_values IS NOT NULL)
    OR EXISTS (SELECT 1 FROM training_artifact WHERE job_id = %s AND epoch > %s)
"""


def _has_more_than(job: TrainingJob, step: int, epoch: int) -> bool:
    """Whether anything was written for the job that a training at this place has not done."""
    ((found,),) = rows_of((_MORE_THAN, (job.pk, step, job.pk, epoch, job.pk, epoch)))
    return bool(found)


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
