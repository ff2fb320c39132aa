"""Jobs of a list as plain tuples with the names of a job's fields: instances of models cost more than the reading."""

from __future__ import annotations

from collections import namedtuple
from operator import attrgetter
from typing import Any

from django.db.models import F

from training import waiting
from training.models import TrainingJob
from training.queries import checkpoint_dict, shape

_STORED = (
    "id", "job_id", "kinds", "epoch", "step", "attempt", "size", "digest", "file_sha256", "val_loss", "pinned",
    "quarantined_at", "quarantine_reason", "created_at",
)  # fmt: skip
_OWN = (
    "id", "job_name", "description", "job_type", "recipe", "owner_id", "team_id", "parent_id", "origin", "tags",
    "priority", "pool", "status", "stop", "stop_at", "phase", "attempt", "config", "current_epoch", "total_epochs",
    "current_step", "total_steps", "step_seconds", "train_loss", "val_loss", "metrics", "learning_rate", "best_epoch",
    "best_val_loss", "error_code", "error_message", "latest_checkpoint_id", "checkpoints_stored", "environment",
    "approximate", "event_seq", "created_at", "queued_at", "started_at", "completed_at", "updated_at",
)  # fmt: skip
_NAMES = ("owner__username", "team__name", "dataset__name")
_WIDTH = len(_OWN) + len(_NAMES) + 1

Stored = namedtuple("Stored", _STORED)


class Row(namedtuple("Row", (*_OWN, *_NAMES, "place", "stored"))):
    """What policy, lifecycle and `shape` read of a job, without the job."""

    __slots__ = ()
    facts = TrainingJob.facts
    pk = property(attrgetter("id"))


def read_rows(numbers: list[int], place: Any = None) -> list[Row]:
    """In this order, with their places; a job that has gone meanwhile is left out."""
    columns = (*_OWN, *_NAMES, place or F("id"), *(f"latest_checkpoint__{name}" for name in _STORED))
    read = TrainingJob.objects.filter(id__in=numbers).order_by().values_list(*columns)
    found = {row[0]: row for row in read}
    return [_row(found[number]) for number in numbers if number in found]


def dicts_of(rows: list[Row], actor: Any) -> list[dict[str, Any]]:
    """The same dicts that `queries.dicts` makes of the jobs."""
    reasons = waiting.reasons(rows)
    return [
        shape(
            row,
            actor,
            reasons.get(row.id),
            owner=row.owner__username,
            team=row.team__name,
            dataset=row.dataset__name,
            checkpoint=checkpoint_dict(row.stored) if row.stored else None,
        )
        for row in rows
    ]


def _row(values: tuple[Any, ...]) -> Row:
    stored = Stored._make(values[_WIDTH:]) if values[_WIDTH] is not None else None
    return Row(*values[:_WIDTH], stored)
