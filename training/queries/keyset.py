"""A place in an ordered list of jobs, and how a list goes on from there.

Beyond a place the list falls into segments that an index answers each: equal values beyond the number, values beyond,
no value at all. A comparison of pairs would say the same in one condition, which databases answer by a scan.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import F, TextField
from django.db.models.functions import Cast

from training.errors import NotFound
from training.queries.columns import PATTERN, Column
from training.queries.conditions import ANY, Sql, both

SORTABLE = (
    "id", "job_name", "status", "recipe", "priority", "best_val_loss",
    "created_at", "started_at", "completed_at", "updated_at",
)  # fmt: skip
ORDERINGS = tuple(sign + name for name in SORTABLE for sign in ("", "-"))
ORDERING_PATTERN = rf"^-?({'|'.join(SORTABLE)}|{PATTERN})$"
_NULLABLE = frozenset({"best_val_loss", "started_at", "completed_at"})  # jobs without a value come last
_TIMES = frozenset({"created_at", "started_at", "completed_at", "updated_at"})
_NEWEST_FIRST = frozenset({"status", "recipe"})  # among equal ones: so stand jobs in the indexes of filters

Segment = tuple[Sql, str]  # a condition, and the order within it


@dataclass(frozen=True)
class Order:
    """By a field, equal ones by their number, as an index has both."""

    field: str
    descending: bool

    @classmethod
    def of(cls, ordering: str) -> Order:
        return cls(ordering.removeprefix("-"), ordering.startswith("-"))

    @property
    def column(self) -> Column | None:
        """Where another table holds it."""
        return Column.named(self.field)

    @property
    def is_nullable(self) -> bool:
        return self.field in _NULLABLE

    @property
    def numbers_descend(self) -> bool:
        return self.descending != (self.field in _NEWEST_FIRST)

    def segments(self, place: CursorPosition | None, column: Callable[[str], str] = str) -> list[Segment]:
        """Conditions and orders that, one after the other, give what lies beyond the place (or all)."""
        backward = place is not None and place.backward
        value, number = column(self.field), column("id")
        by_number = number + direction_of(self.numbers_descend != backward)
        by_value = f"{value}{direction_of(self.descending != backward)}, {by_number}"
        given = [(Sql(f"{value} IS NOT NULL") if self.is_nullable else ANY, by_value)]
        nulls = [(Sql(f"{value} IS NULL"), by_number)] if self.is_nullable else []
        if place is None:
            return given + nulls
        beyond = Sql(f"{number} {sign_of(self.numbers_descend != backward)} %s", (place.number,))
        if self.field == "id":
            return [(beyond, by_number)]
        if place.value is None:
            return [(both(nulls[0][0], beyond), by_number), *(given if backward else [])]
        same = Sql(f"{value} = %s", (place.value,))
        others = Sql(f"{value} {sign_of(self.descending != backward)} %s", (place.value,))
        return [(both(same, beyond), by_number), (others, by_value), *([] if backward else nulls)]


@dataclass(frozen=True)
class CursorPosition:
    """After a job, or before it. `value` is what the list is ordered by, as `place_of` reads it."""

    ordering: str
    value: Any
    number: int
    backward: bool = False

    def as_text(self) -> str:
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        packed = json.dumps([self.ordering, value, self.number, int(self.backward)], separators=(",", ":"))
        return base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str, ordering: str) -> CursorPosition:
        """Raises NotFound for a text that no list gave."""
        try:
            of, value, number, backward = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            value = _checked(Order.of(ordering).field, value)
            if of != ordering or type(number) is not int or not 0 < number < 2**63 or backward not in (0, 1):
                raise ValueError("not made by as_text")
        except (ValueError, TypeError, RecursionError):
            raise NotFound(
                "No list gave this cursor. Take it from the `next` or `previous` of a list in the same order."
            ) from None
        return cls(ordering, value, number, bool(backward))


def place_of(field: str) -> Any:
    """The expression that reads a job's place in the order.

    SQLite keeps a time as text, with as many digits as it was written with, and compares it as text.
    """
    return Cast(field, TextField()) if field in _TIMES and connection.vendor == "sqlite" else F(field)


def is_ordering(text: str) -> bool:
    return text in ORDERINGS or Column.named(text.removeprefix("-")) is not None


def direction_of(descending: bool) -> str:
    return " DESC" if descending else ""


def sign_of(descending: bool) -> str:
    return "<" if descending else ">"


def _checked(field: str, value: Any) -> Any:
    """The value as the database compares it. Raises ValueError or TypeError."""
    column = Column.named(field)
    if column is not None:
        return _checked_column(column, value)
    if value is None and field in _NULLABLE:
        return None
    if field in _TIMES:
        moment = datetime.fromisoformat(value)
        return value if connection.vendor == "sqlite" else moment
    kind = {"id": int, "priority": int, "best_val_loss": float}.get(field, str)
    if type(value) is not kind or (kind is int and not -(2**63) <= value < 2**63):
        raise ValueError(f"no value of {field}")
    if kind is str and "\x00" in value.encode().decode():  # encode: nor half of a surrogate pair
        raise ValueError("no text of a database")
    return value


def _checked_column(column: Column, value: Any) -> float | str | None:
    if isinstance(value, str) and column.prefix == "config" and "\x00" not in value.encode().decode():
        return value
    if value is None or (type(value) in {int, float} and math.isfinite(value)):
        return None if value is None else float(value)
    raise ValueError(f"no value of {column}")
