"""How a stored file becomes the job's checkpoint, and how a bad one is set aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from training.errors import NoGoodCheckpoint
from training.models import Attempt, Checkpoint, Event, TrainingJob
from training.services import chain
from training.services.leases import WORKER, add_to_attempt, note_event, renew
from training.services.rollback import to_checkpoint
from training.services.storable import MAX_DETAIL_CHARACTERS, finite, shortened
from training.services.transition import add_events, new_event, write
from training.store.checkpoints import StoredCheckpoint


def record_checkpoint(attempt: Attempt, stored: StoredCheckpoint) -> Checkpoint:
    """The stored file becomes the job's checkpoint: row and pointer in one fenced transaction."""
    with transaction.atomic():
        job = renew(attempt, {})
        recorded = add_checkpoint_row(job, attempt, stored)
        write(job, recorded.changes, num_events=len(recorded.events))
        add_events(job, *recorded.events)
        add_to_attempt(attempt, recorded.facts)
        assert recorded.row
        return recorded.row


def quarantine(attempt: Attempt, checkpoint: Checkpoint, reason: str) -> Checkpoint:
    """Set a checkpoint aside that failed its check, and start from the good one before it.

    Raises NoGoodCheckpoint where there is none: never a silent start from scratch.
    """
    with transaction.atomic():
        job = renew(attempt, {})
        Checkpoint.objects.filter(pk=checkpoint.pk, quarantined_at=None).update(
            quarantined_at=Now(), quarantine_reason=shortened(reason, MAX_DETAIL_CHARACTERS)
        )
        start = newest_good_checkpoint(job)
        changes = to_checkpoint(job, start)
        changes |= {"latest_checkpoint": start, "checkpoint": start.file.name if start else ""}
        TrainingJob.objects.filter(pk=job.pk).update(**changes)
        job.refresh_from_db()
        Attempt.objects.filter(pk=attempt.pk).update(
            started_from=start, started_step=start.step if start else 0
        )
        note_event(job, "quarantine", f"The checkpoint at step {checkpoint.step} was set aside: {reason}")
        if start:
            note_event(job, "rollback", f"Rolled back to step {start.step}.")
    attempt.refresh_from_db()
    if start is None:
        raise NoGoodCheckpoint(
            "Every checkpoint of this job failed its check; restart begins again at step 0."
        )
    return start


def newest_good_checkpoint(job: TrainingJob) -> Checkpoint | None:
    good = Checkpoint.objects.filter(job=job, generation=job.generation, quarantined_at=None)
    return good.order_by("-step", "-id").first()


@dataclass(frozen=True)
class RecordedCheckpoint:
    """A stored checkpoint that has its row, and what is to be written of it elsewhere."""

    row: Checkpoint | None = None
    changes: dict[str, Any] = field(default_factory=dict)  # of the job
    facts: dict[str, Any] = field(default_factory=dict)  # of the attempt
    events: tuple[Event, ...] = ()


NOTHING_RECORDED = RecordedCheckpoint()


def add_checkpoint_row(job: TrainingJob, attempt: Attempt, stored: StoredCheckpoint) -> RecordedCheckpoint:
    """Give a stored file its row, under the lock of the job's. The same file stored again gains the new kinds."""
    kinds = stored.staged.kinds
    row = Checkpoint.objects.filter(file=stored.name).first()
    changes: dict[str, Any] = {"checkpoint": stored.name, "crashes_since_checkpoint": 0}
    if row is None:
        row = _new_row(job, attempt, stored)
        chain.add_stored(job, attempt, stored.staged, row)
        if Checkpoint.Kind.FINAL in kinds:
            _leave_one_final(row)
        changes |= {"latest_checkpoint": row, "checkpoints_stored": F("checkpoints_stored") + 1}
        facts = {
            "checkpoints": F("checkpoints") + 1,
            "checkpoint_bytes": F("checkpoint_bytes") + row.size,
            "checkpoint_seconds": F("checkpoint_seconds") + stored.seconds,
        }
        return RecordedCheckpoint(row, changes, facts, (_checkpoint_event(job, row, kinds),))
    is_known = set(kinds) <= set(row.kinds)  # written before; the answer was lost
    row.kinds = sorted({*row.kinds, *kinds})
    row.save(update_fields=["kinds"])
    events = () if is_known else (_checkpoint_event(job, row, kinds),)
    return RecordedCheckpoint(row, changes | {"latest_checkpoint": row}, events=events)


def _new_row(job: TrainingJob, attempt: Attempt, stored: StoredCheckpoint) -> Checkpoint:
    staged = stored.staged
    return Checkpoint.objects.create(
        file=stored.name,
        job=job,
        attempt=attempt.number,
        generation=job.generation,
        step=staged.step,
        epoch=staged.epoch,
        size=staged.size,
        digest=staged.digest,
        header_sha256=staged.header_sha256,
        val_loss=finite(staged.val_loss),
        kinds=sorted(staged.kinds),
    )


def _leave_one_final(row: Checkpoint) -> None:
    """A trainer that dies when its last file is stored has it stored once more by the next attempt."""
    for other in Checkpoint.objects.filter(job=row.job, generation=row.generation).exclude(pk=row.pk):
        if Checkpoint.Kind.FINAL in other.kinds:
            other.kinds = sorted({*other.kinds, Checkpoint.Kind.PERIODIC} - {Checkpoint.Kind.FINAL})
            other.save(update_fields=["kinds"])


def _checkpoint_event(job: TrainingJob, row: Checkpoint, kinds: tuple[str, ...]) -> Event:
    sentence = f"Checkpoint at step {row.step} ({', '.join(sorted(kinds))})."
    data = {"checkpoint": row.pk, "digest": row.digest, "kinds": sorted(kinds)}
    return new_event(job, "checkpoint", sentence, by=WORKER, data=data)
