"""Which checkpoints are kept and for how long, and the files of the store that no row names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet
from django.utils import timezone

from heimdall.attached.program import ProgramSettings
from training.errors import StorageUnavailable
from training.lifecycle import Status
from training.models import (
    Attempt,
    Checkpoint,
    Replay,
    TrainingJob,
    checkpoint_storage,
)
from training.services.clock import in_seconds
from training.services.replays import OPEN
from training.store import checkpoints

PORTION = 200  # jobs, or files, that are looked at together
T = TypeVar("T")
_OWNER = re.compile(r"jobs/([0-9]{1,18})/a([0-9]{1,9})/")  # job and attempt, in the name of a stored file
_KEPT_KINDS = {Checkpoint.Kind.FINAL, Checkpoint.Kind.START}


def retire_checkpoints(job: TrainingJob) -> int:
    """Delete the checkpoints that the job's retention no longer keeps; return how many.

    Kept: pinned and final ones, what a fork began from, the newest keep_last, the best keep_best, what a replay that
    is still to come begins with, what the job would resume from, and what an open attempt started from.
    """
    return _retire(TrainingJob.objects.filter(pk=job.pk))


def retire_all_checkpoints() -> int:
    """The same of every job that does not run: what counts its age in days goes too."""
    stored = (
        Checkpoint.objects.exclude(job__status=Status.RUNNING).order_by().values_list("job_id", flat=True)
    )
    return sum(_retire(TrainingJob.objects.filter(pk__in=some)) for some in _portions(stored.distinct()))


def delete_orphaned_files(*, grace_seconds: float | None = None) -> list[str]:
    """Delete files of the store that no row names and that are older than the grace; return their names.

    A file of an attempt that is still open may get its row yet, however old some host's clock makes it look. One of
    an attempt that is over never will: its worker is fenced out.
    """
    grace = settings.ORPHAN_GRACE_SECONDS if grace_seconds is None else grace_seconds
    limit = timezone.now() - timedelta(seconds=grace)
    return [
        name
        for some in _portions(checkpoints.stored_names())
        for name in _without_row(some)
        if _delete_orphan(name, limit)
    ]


def _delete_orphan(name: str, limit: datetime) -> bool:
    storage = checkpoint_storage()
    try:
        if not _is_orphan(name) or storage.get_modified_time(name) >= limit or not _is_orphan(name):
            return False
        checkpoints.delete_file(name)
    except (OSError, ObjectDoesNotExist, StorageUnavailable):
        return False  # gone meanwhile, or to be tried again at the next sweep
    return True


def _without_row(names: list[str]) -> list[str]:
    """Almost every file has its row: one question for many."""
    known = set(Checkpoint.objects.filter(file__in=names).values_list("file", flat=True))
    return [name for name in names if name not in known]


def _portions(things: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while some := list(islice(rest, PORTION)):
        yield some


def _is_orphan(name: str) -> bool:
    owner = _OWNER.match(name)
    if owner and Attempt.objects.filter(job_id=int(owner[1]), number=int(owner[2]), ended_at=None).exists():
        return False
    # Asked after the attempt, which may have ended with this very row.
    return not Checkpoint.objects.filter(file=name).exists()


def _retire(jobs: QuerySet[TrainingJob]) -> int:
    return sum(_delete_checkpoint(row) for row in _not_kept(jobs))


def _not_kept(jobs: QuerySet[TrainingJob]) -> list[Checkpoint]:
    """Of the jobs that are found, each one's oldest first: where the newest turns out bad while this goes on, the job
    goes back to the best that is left. A job may have been deleted since it ended, with all its files.
    """
    found = {job.pk: job for job in jobs}
    stored = Checkpoint.objects.filter(job__in=found)
    rows: dict[int, list[Checkpoint]] = {pk: [] for pk in found}
    for row in stored.order_by("-step", "-id"):
        rows[row.job_id].append(row)
    old = set(
        stored.filter(created_at__lt=in_seconds(-settings.DISCARDED_KEEP_SECONDS)).values_list(
            "pk", flat=True
        )
    )
    starts = Attempt.objects.filter(job__in=found, ended_at=None).values_list("started_from", flat=True)
    stays = {job.latest_checkpoint_id for job in found.values()} | set(starts)
    replays = Replay.objects.filter(job__in=found, state__in=OPEN, start__isnull=False)
    awaited = set(replays.values_list("start", flat=True))
    for pk, job in found.items():
        stays |= _kept(job, rows[pk], old, awaited)
    return [row for of_one in rows.values() for row in reversed(of_one) if row.pk not in stays]


def _kept(job: TrainingJob, rows: list[Checkpoint], old: set[int], awaited: set[int]) -> set[int]:
    """The ids of the checkpoints that the job's retention keeps.

    old: those that are older, in the database's clock, than what was set aside or given up is kept.
    awaited: those that replays begin with, as far as they fit into the bytes that the job may keep.
    """
    good = [row for row in rows if row.quarantined_at is None and row.generation == job.generation]
    by_loss = sorted(
        (row for row in good if "best" in row.kinds and row.val_loss is not None),
        key=lambda row: (row.val_loss, row.step),
    )
    newest, best = good[: _setting(job, "keep_last")], by_loss[: _setting(job, "keep_best")]
    begun = [row for row in good if row.pk in awaited]
    stays = {row.pk for row in _that_fit([*newest[:1], *best, *newest[1:], *begun])}
    stays |= {row.pk for row in rows if row.pinned or _KEPT_KINDS & set(row.kinds)}
    return stays | ({row.pk for row in rows if row not in good} - old)


def _setting(job: TrainingJob, name: str) -> int:
    """A recipe's config has all of its fields, a program's only those that were given."""
    value: int = job.config.get(name, ProgramSettings.model_fields[name].default)
    return value


def _that_fit(rows: list[Checkpoint]) -> Iterator[Checkpoint]:
    """The first of them, and of the others those that a job may keep beside it. A row may stand there twice."""
    total, seen = 0, set[int]()
    for row in rows:
        if row.pk in seen:
            continue
        if not seen or total + row.size <= settings.MAX_CHECKPOINT_GB_PER_JOB * 1e9:
            total += row.size
            seen.add(row.pk)
            yield row


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
