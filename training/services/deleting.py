"""How a finished job goes, with its history and its files; that somebody did so stays known."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from training.errors import StorageUnavailable
from training.lifecycle import Answer, Verb
from training.models import (
    Attempt,
    Checkpoint,
    Deletion,
    TrainingJob,
)
from training.services import outbox
from training.services.counters import keep_counts
from training.services.transition import Result, add_event, write
from training.store import checkpoints


def apply_delete(job: TrainingJob, by: Any) -> Result:
    write(job, {"latest_checkpoint": None, "checkpoint": ""})  # decides the race; the rest is ours
    _record_deletion(job, by)
    names = list(Checkpoint.objects.filter(job=job).values_list("file", flat=True))
    Attempt.objects.filter(job=job).update(started_from=None)
    keep_counts(job.pk)
    pk = job.pk
    job.delete()
    job.pk = pk  # Django clears it; the doors still name the job
    transaction.on_commit(lambda: _delete_files(names))
    return Result(job, Answer.DONE, f"Job {pk} and its files are deleted.")


def _record_deletion(job: TrainingJob, by: Any) -> None:
    """Tell of the deletion as of every transition, and keep what would go with the job."""
    event = add_event(job, str(Verb.DELETE), f"Deleted by {by}.", by=by)
    event.refresh_from_db(fields=["created_at"])  # the database's clock wrote it
    outbox.announce(job, event, Verb.DELETE)
    Deletion.objects.create(
        id=event.pk,
        job_number=job.pk,
        job_name=job.job_name,
        job_type=job.job_type,
        recipe=job.recipe,
        owner_id=job.owner_id,
        team_id=job.team_id,
        status=job.status,
        epoch=job.current_epoch,
        step=job.current_step,
        message=event.message,
        actor=event.actor,
        user=event.user,
        created_at=event.created_at,
    )


def _delete_files(names: list[str]) -> None:
    for name in names:
        try:
            checkpoints.delete_file(name)
        except StorageUnavailable:
            return  # the sweep of orphaned files comes back to them
