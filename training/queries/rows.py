"""Jobs of a list as plain tuples with the names of a job's fields: instances of models cost more than the reading.

The ORM writes the statement once; after that it is only filled in. What JSON columns hold is often the same in many
jobs, and is taken apart once.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any

from django.db import connection

from training import placement
from training.models import TrainingJob
from training.queries import checkpoint_dict, shape
from training.queries.keyset import place_of

_STORED = (
    "id", "job_id", "kinds", "epoch", "step", "attempt", "size", "digest", "header_sha256", "val_loss", "pinned",
    "quarantined_at", "quarantine_reason", "created_at",
)  # fmt: skip
_OWN = (
    "id", "job_name", "description", "job_type", "recipe", "program", "shown_exact_on",
    "replayed", "generation", "owner_id", "team_id",
    "parent_id", "dataset_id", "origin", "tags", "priority", "pool",
    "fewest_devices", "most_devices", "num_hosts", "is_gang", "ranks", "rank_devices",
    "status", "stop", "stop_at", "phase",
    "attempt", "config", "current_epoch", "total_epochs", "current_step", "total_steps", "step_seconds",
    "train_loss", "val_loss",
    "metrics", "learning_rate", "best_epoch", "best_val_loss", "error_code", "error_message",
    "latest_checkpoint_id", "checkpoints_stored", "environment", "approximate", "event_seq", "heard_at", "created_at",
    "queued_at", "started_at", "completed_at", "updated_at",
)  # fmt: skip
_NAMES = ("owner__username", "team__name", "dataset__name", "code__digest")
_COLUMNS = (*_OWN, *_NAMES, *(f"latest_checkpoint__{name}" for name in _STORED))
_WIDTH = len(_OWN) + len(_NAMES)

Stored = namedtuple("Stored", _STORED)


class Row(namedtuple("Row", (*_OWN, *_NAMES, "place", "stored"))):
    """What policy, lifecycle and `shape` read of a job, without the job. `place` is that in the list's order."""

    __slots__ = ()
    facts = TrainingJob.facts
    pk = property(attrgetter("id"))


def read_rows(numbers: list[int], order: str) -> list[Row]:
    """In this order; a job that has gone meanwhile is left out."""
    found = {row.id: row for row in _read(numbers, order)} if numbers else {}
    return [found[number] for number in numbers if number in found]


def dicts_of(rows: list[Row], actor: Any) -> list[dict[str, Any]]:
    """The same dicts that `queries.dicts` makes of the jobs."""
    reasons = placement.waiting_reasons(rows)
    return [
        shape(
            row,
            actor,
            reasons.get(row.id),
            owner=row.owner__username,
            team=row.team__name,
            dataset=row.dataset__name,
            code=row.code__digest,
            checkpoint=checkpoint_dict(row.stored) if row.stored else None,
        )
        for row in rows
    ]


def _read(numbers: list[int], order: str) -> Iterator[Row]:
    conversions = _conversions(connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(_statement(connection.vendor, order, len(numbers)), numbers)
        for found in cursor.fetchall():
            values = list(found)
            for column, convert in conversions:
                if values[column] is not None:
                    values[column] = convert(values[column])
            stored = Stored._make(values[_WIDTH:-1]) if values[_WIDTH] is not None else None
            yield Row(*values[:_WIDTH], values[-1], stored)


@lru_cache(maxsize=256)
def _statement(vendor: str, order: str, count: int) -> str:
    chosen = TrainingJob.objects.filter(id__in=range(1, count + 1)).order_by()
    return chosen.values_list(*_COLUMNS, place_of(order)).query.sql_with_params()[0]


@cache
def _conversions(vendor: str) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
    """How values come from this database, by column: SQLite knows no zones."""
    kinds: dict[str, Callable[[Any], Any]] = {"JSONField": _from_json}
    if vendor == "sqlite":
        kinds["DateTimeField"] = _in_utc
    fields = [TrainingJob._meta.get_field(name) for name in _OWN]
    stored = TrainingJob._meta.get_field("latest_checkpoint").remote_field.model._meta
    every = [*fields, *(None for _ in _NAMES), *(stored.get_field(name) for name in _STORED)]
    found = (
        (column, kinds.get(field.get_internal_type() if field else "")) for column, field in enumerate(every)
    )
    return tuple((column, convert) for column, convert in found if convert)


@lru_cache(maxsize=1024)
def _from_json(text: str) -> Any:
    """Shared by the rows that hold the same: whoever shows it changes nothing."""
    return json.loads(text)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
