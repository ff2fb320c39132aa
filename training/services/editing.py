"""What people change of a job beside its life: name, description, tags, priority, pool, pinned checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from django.db import transaction

from training import fields, policy, queue
from training.errors import EditedMeanwhile, NotFound
from training.lifecycle import Status
from training.models import (
    Checkpoint,
    Tag,
    TrainingJob,
)
from training.services import limits
from training.services.transition import (
    add_event,
    raise_event_seq,
    read_job,
)


def edit(
    job: TrainingJob,
    *,
    by: Any,
    job_name: str | None = None,
    description: str | None = None,
    priority: int | None = None,
    pool: str | None = None,
    tags: Any = None,
    versions: Collection[str] | None = None,
) -> TrainingJob:
    """Change what a job is called and found by, how urgent it is, or for which nodes. What it computes stays.

    With `versions`, only while what can be changed has one of these; else EditedMeanwhile.
    """
    policy.require(by, policy.EDIT, job)
    changes: dict[str, Any] = {}
    if job_name is not None:
        changes["job_name"] = fields.clean_name(job_name)
    if description is not None:
        changes["description"] = fields.clean_description(description)
    if priority is not None:
        changes["priority"] = fields.clean_priority(priority)
        limits.require_priority(priority, by=by, before=job.priority)
    if pool is not None:
        changes["pool"] = fields.clean_pool(pool)
    if tags is not None:
        changes["tags"] = fields.clean_tags(tags)
    return _edit(job, by, changes, versions) if changes else job


def edit_version(job: Any) -> str:
    """Names what `edit` changes, as it is now; nothing that a training changes is in it."""
    about = [job.job_name, job.description, job.priority, job.pool, sorted(job.tags)]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def pin(checkpoint: Checkpoint, *, by: Any, pinned: bool) -> Checkpoint:
    """Keep a checkpoint for as long as its job, whatever the retention says; or no longer."""
    policy.require(by, policy.EDIT, checkpoint.job)
    with transaction.atomic():
        job = read_job(checkpoint.job_id, lock=True)
        if not Checkpoint.objects.filter(pk=checkpoint.pk).update(pinned=pinned):
            raise NotFound(f"There is no checkpoint {checkpoint.pk}.")
        raise_event_seq(job)
        word = "Pinned" if pinned else "Unpinned"
        add_event(job, "pin", f"{word} the checkpoint at step {checkpoint.step}.", by=by)
    checkpoint.refresh_from_db()
    return checkpoint


def _edit(
    job: TrainingJob, by: Any, changes: dict[str, Any], versions: Collection[str] | None
) -> TrainingJob:
    with transaction.atomic():
        seen = read_job(job.pk, lock=True)
        if versions is not None and edit_version(seen) not in versions:
            raise EditedMeanwhile(f"Job {job.pk} was edited since you read it: read it again.")
        TrainingJob.objects.filter(pk=seen.pk).update(**changes)
        raise_event_seq(seen)
        if "tags" in changes:
            index_tags(seen)
        shown = ", ".join(sorted(changes))
        add_event(seen, "edit", f"Changed {shown}.", by=by, data={"fields": sorted(changes)})
        if "pool" in changes and seen.status == Status.QUEUED:
            queue.wake()
    return seen


def index_tags(job: TrainingJob) -> None:
    Tag.objects.filter(job=job).delete()
    Tag.objects.bulk_create([Tag(job=job, name=name) for name in job.tags])
