"""Retention of checkpoints, orphaned files, and the scheduler's one wish."""

from __future__ import annotations

import re
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet
from django.utils import timezone

from training import checkpoints
from training.errors import StorageUnavailable
from training.lifecycle import RULES, StopAt, Verb
from training.models import Attempt, Checkpoint, TrainingJob, checkpoint_storage
from training.policy import System
from training.services.clock import in_seconds
from training.services.transition import Raced, move

SCHEDULER = System("scheduler")
_OWNER = re.compile(r"jobs/([0-9]{1,18})/a([0-9]{1,9})/")  # job and attempt, in the name of a stored file
_KEPT_KINDS = {Checkpoint.Kind.FINAL, Checkpoint.Kind.START}


def preempt(job: TrainingJob, *, for_job: TrainingJob) -> bool:
    """Ask a running job to make room for one of higher priority; False where it changed meanwhile."""
    if (Verb.PREEMPT, job.status, job.stop) not in RULES:
        return False
    try:
        with transaction.atomic():
            said = f"Makes room for job {for_job.pk}, which has a higher priority."
            move(job, Verb.PREEMPT, by=SCHEDULER, message=said, stop_at=StopAt.STEP)
    except Raced:
        return False
    return True


def retire_checkpoints(job: TrainingJob) -> int:
    """Delete the checkpoints that the job's retention no longer keeps; return how many.

    Kept: pinned and final ones, what a fork began from, the newest keep_last, the best keep_best, what the job
    would resume from, and what an open attempt started from.
    """
    return sum(_delete_checkpoint(row) for row in _not_kept(TrainingJob.objects.filter(pk=job.pk)))


def delete_orphaned_files(*, grace_seconds: float | None = None) -> list[str]:
    """Delete files of the store that no row names and that are older than the grace; return their names.

    A file of an attempt that is still open may get its row yet, however old some host's clock makes it look. One of
    an attempt that is over never will: its worker is fenced out.
    """
    grace = settings.ORPHAN_GRACE_SECONDS if grace_seconds is None else grace_seconds
    storage, limit, deleted = checkpoint_storage(), timezone.now() - timedelta(seconds=grace), []
    for name in checkpoints.stored_names():
        if not _is_orphan(name):
            continue
        try:
            if storage.get_modified_time(name) < limit and _is_orphan(name):
                checkpoints.delete_file(name)
                deleted.append(name)
        except (OSError, ObjectDoesNotExist, StorageUnavailable):
            continue  # gone meanwhile, or to be tried again at the next sweep
    return deleted


def _is_orphan(name: str) -> bool:
    owner = _OWNER.match(name)
    if owner and Attempt.objects.filter(job_id=int(owner[1]), number=int(owner[2]), ended_at=None).exists():
        return False
    # Asked after the attempt, which may have ended with this very row.
    return not Checkpoint.objects.filter(file=name).exists()


def _not_kept(jobs: QuerySet[TrainingJob]) -> list[Checkpoint]:
    """Of the one job that is found; it may have been deleted since it ended, with all its files."""
    job = jobs.first()
    rows = list(Checkpoint.objects.filter(job=job).order_by("-step", "-id")) if job else []
    kept = _kept(job, rows) if job else set()
    return [row for row in rows if row.pk not in kept]


def _kept(job: TrainingJob, rows: list[Checkpoint]) -> set[int]:
    """The ids of the checkpoints that stay."""
    good = [row for row in rows if row.quarantined_at is None and row.generation == job.generation]
    by_loss = sorted(
        (row for row in good if "best" in row.kinds and row.val_loss is not None),
        key=lambda row: (row.val_loss, row.step),
    )
    open_starts = Attempt.objects.filter(job=job, ended_at=None).values_list("started_from", flat=True)
    stays = {job.latest_checkpoint_id, *open_starts}
    stays |= {row.pk for row in good[: job.config.get("keep_last", 3)]}
    stays |= {row.pk for row in by_loss[: job.config.get("keep_best", 1)]}
    stays |= {row.pk for row in rows if row.pinned or _KEPT_KINDS & set(row.kinds)}
    stays |= {row.pk for row in rows if row not in good} - _old(job)
    return {pk for pk in stays if pk is not None}


def _old(job: TrainingJob) -> set[int]:
    """Older, in the database's clock, than the time for which what was set aside or given up is kept."""
    limit = in_seconds(-settings.DISCARDED_KEEP_SECONDS)
    return set(Checkpoint.objects.filter(job=job, created_at__lt=limit).values_list("pk", flat=True))


def _delete_checkpoint(row: Checkpoint) -> bool:
    name = str(row.file)
    try:
        with transaction.atomic():
            # Whoever comes to stand on a checkpoint writes the job's row as well: nobody does while it is held.
            held = TrainingJob.objects.select_for_update(no_key=True).filter(pk=row.job_id)
            if row not in _not_kept(held):
                return False
            Attempt.objects.filter(started_from=row, ended_at__isnull=False).update(started_from=None)
            row.delete()
    except (ProtectedError, IntegrityError):  # by Django's look, or by the database at the commit
        return False  # somebody came to stand on it since we looked
    try:
        checkpoints.delete_file(name)
    except StorageUnavailable:
        pass  # the sweep of orphaned files comes back to it
    return True
