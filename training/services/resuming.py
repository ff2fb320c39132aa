"""How a stopped job goes back into the queue: from its newest checkpoint, an older one, or its beginning."""

from __future__ import annotations

from typing import Any

from django.db.models import F

from heimdall.errors import InvalidInput
from training import policy, queue
from training.errors import TransitionRefused
from training.lifecycle import Answer, Rule, Status, Verb
from training.models import (
    Artifact,
    Checkpoint,
    Metric,
    TrainingJob,
)
from training.services import limits
from training.services.metrics import forget_blocks
from training.services.rollback import rolled_back, start_again, to_checkpoint
from training.services.transition import Result, move


def apply_resume(job: TrainingJob, rule: Rule, by: Any, checkpoint: int | None) -> Result:
    start, changes = job.latest_checkpoint, {}
    if checkpoint is not None and (start is None or checkpoint != start.pk):
        policy.require(by, Verb.RESTART, job)  # what was trained since is given up
        start = _older_checkpoint(job, rule, checkpoint)
        changes = _take_back(job, start)
    elif rule.to_status == Status.RUNNING:
        move(job, Verb.RESUME, by=by, message="The pause was withdrawn.")
        return Result(
            job, Answer.DONE, f"Job {job.pk} goes on: its pause was withdrawn.", resumes_from=_place(job)
        )
    limits.require_room_in_queue(job.owner)
    changes |= start_again(job) | to_checkpoint(job, start)
    changes |= {"crashes_at_step": 0, "crashes_since_checkpoint": 0}
    step, epoch = (start.step, start.epoch) if start else (0, 0)
    repeats = f" Rolled back to step {step}." if rolled_back(job, start) else ""
    move(job, Verb.RESUME, by=by, message=f"Resumed from step {step}.{repeats}", changes=changes)
    return Result(
        job,
        Answer.NOTED,
        f"Job {job.pk} is queued and goes on from step {step}.",
        task_id=queue.wake(),
        resumes_from={"epoch": epoch, "step": step},
    )


def apply_restart(job: TrainingJob, by: Any) -> Result:
    limits.require_room_in_queue(job.owner)
    beginning = _beginning(job)
    Metric.objects.filter(job_id=job.pk).delete()
    forget_blocks(job, after=-1)
    Artifact.objects.filter(job_id=job.pk).delete()
    changes = start_again(job) | {
        "generation": F("generation") + 1,
        "crashes_at_step": 0,
        "crash_step": None,
        "crashes_since_checkpoint": 0,
        "environment": job.environment if job.origin else {},
        "approximate": [],
        "train_loss": None,
        "val_loss": None,
        "learning_rate": None,
        "metrics": {},
        "best_epoch": None,
        "best_val_loss": None,
        "started_at": None,
    }
    move(
        job,
        Verb.RESTART,
        by=by,
        message=f"Restarted at step {beginning['current_step']}, on purpose.",
        changes=changes | beginning,
    )
    if job.latest_checkpoint_id:
        Checkpoint.objects.filter(pk=job.latest_checkpoint_id).update(generation=job.generation)
    return Result(
        job,
        Answer.NOTED,
        f"Job {job.pk} is queued and begins again at step {job.current_step}.",
        task_id=queue.wake(),
        resumes_from=_place(job),
    )


def _older_checkpoint(job: TrainingJob, rule: Rule, pk: int) -> Checkpoint:
    if rule.to_status == Status.RUNNING:
        raise InvalidInput({"checkpoint": ["The job still trains; pause it before it is taken back."]})
    found = Checkpoint.objects.filter(job=job, pk=pk).first()
    if found is None:
        raise InvalidInput({"checkpoint": [f"Job {job.pk} has no checkpoint {pk}."]})
    if found.quarantined_at is not None:
        raise InvalidInput({"checkpoint": [f"Checkpoint {pk} failed its check: {found.quarantine_reason}"]})
    if found.generation != job.generation:
        raise InvalidInput({"checkpoint": [f"Checkpoint {pk} was given up when the job was taken back."]})
    return found


def _take_back(job: TrainingJob, start: Checkpoint) -> dict[str, Any]:
    """A new generation that begins with the checkpoint and those before it: newer ones are not ahead any more."""
    older = Checkpoint.objects.filter(job=job, generation=job.generation, step__lte=start.step)
    num_older = older.exclude(step=start.step, pk__gt=start.pk).update(generation=job.generation + 1)
    return {
        "generation": job.generation + 1,
        "latest_checkpoint": start,
        "checkpoint": start.file.name,
        "checkpoints_stored": num_older,
    }


def _beginning(job: TrainingJob) -> dict[str, Any]:
    """Step 0; for a job that began from another one's checkpoint, that checkpoint."""
    start = Checkpoint.objects.filter(job=job, pk=job.origin["start"]).first() if job.origin else None
    if job.origin and (start is None or start.quarantined_at):
        raise TransitionRefused(
            f"The checkpoint that job {job.pk} began from failed its check, so there is no beginning to go back to.",
            status=job.status,
        )
    return {
        "latest_checkpoint": start,
        "checkpoint": start.file.name if start else "",
        "checkpoints_stored": 1 if start else 0,
        "current_step": start.step if start else 0,
        "current_epoch": start.epoch if start else 0,
    }


def _place(job: TrainingJob) -> dict[str, int]:
    return {"epoch": job.current_epoch, "step": job.current_step}
