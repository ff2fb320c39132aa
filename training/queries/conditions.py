"""What a list of jobs asks for, as SQL: by the index that finds these jobs, and as a look at a job found otherwise.

Written out rather than built by the ORM, which takes ten times as long to make a statement as it takes to answer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from training.models import Tag, TrainingJob

JOBS = TrainingJob._meta.db_table
TAGS = Tag._meta.db_table
NO_LIMIT = 2**63 - 1  # as a LIMIT; without one, databases look before they merge
MOST_PARTS = 100  # of one condition; databases take some hundreds in a statement


class Sql(NamedTuple):
    text: str
    values: tuple[Any, ...] = ()


ANY = Sql("TRUE")


@dataclass(frozen=True)
class ConditionPart:
    """Jobs that one index finds. `number` is their number in the index's table."""

    where: Sql
    table: str = JOBS
    number: str = f"{JOBS}.id"

    def select(self, *looks: Sql) -> Sql:
        """Their numbers: of those on which these looks agree."""
        where = self.that(*looks).where
        return Sql(f"SELECT {self.number} AS id FROM {self.table} WHERE {where.text}", where.values)

    def looked_at(self, *looks: Sql) -> Sql:
        """The numbers of all, and of each whether these looks agree on it."""
        look = self._at_job(*looks)
        text = f"SELECT {self.number} AS id, {look.text} AS fits FROM {self.table} WHERE {self.where.text}"
        return Sql(text, (*look.values, *self.where.values))

    def beyond(self, sign: str, number: int) -> ConditionPart:
        return replace(self, where=both(self.where, Sql(f"{self.number} {sign} %s", (number,))))

    def that(self, *looks: Sql) -> ConditionPart:
        """Those of its jobs on which these looks agree."""
        return replace(self, where=both(self.where, self._at_job(*looks))) if looks else self

    def _at_job(self, *looks: Sql) -> Sql:
        if self.table == JOBS:
            return both(*looks)
        job = both(Sql(f"{JOBS}.id = {self.number}"), *looks)
        return Sql(f"EXISTS (SELECT 1 FROM {JOBS} WHERE {job.text})", job.values)


@dataclass(frozen=True)
class Condition:
    """The parts share no job. `in_order`: each of their indexes has its jobs in the order of numbers."""

    parts: tuple[ConditionPart, ...]
    look: Sql
    in_order: bool = True

    @property
    def is_far(self) -> bool:
        """Whether an index of another table finds them, so that each job must be fetched to be looked at."""
        return any(part.table != JOBS for part in self.parts)


ALL = Condition((ConditionPart(ANY),), ANY)
NONE = Condition((), Sql("FALSE"))


def equal(column: str, values: Iterable[Any]) -> Condition:
    """A column with an index of its own, in the order of numbers within one value."""
    values = tuple(dict.fromkeys(values))
    parts = tuple(ConditionPart(Sql(f"{column} = %s", (value,))) for value in values)
    return Condition(parts, Sql(f"{plain(column)} IN ({_marks(values)})", values))


def visible(owner: int, teams: Sequence[int]) -> Condition:
    """The jobs of a person and of teams."""
    if not teams:
        return equal("owner_id", [owner])
    led, look = (
        Sql(f"({write('owner_id')} = %s OR {write('team_id')} IN ({_marks(teams)}))", (owner, *teams))
        for write in (str, plain)
    )
    if len(teams) > MOST_PARTS:
        return Condition((ConditionPart(led),), look, in_order=False)
    own = ConditionPart(Sql("owner_id = %s", (owner,)))
    others = (ConditionPart(Sql("team_id = %s AND owner_id <> %s", (team, owner))) for team in teams)
    return Condition((own, *others), look)


def created(sign: str, moment: datetime) -> Condition:
    value = (connection.ops.adapt_datetimefield_value(moment),)
    led, look = (Sql(f"{column} {sign} %s", value) for column in ("created_at", plain("created_at")))
    return Condition((ConditionPart(led),), look, in_order=False)


def tagged(name: str) -> Condition:
    part = ConditionPart(Sql("name = %s", (name,)), TAGS, f"{TAGS}.job_id")
    look = f"EXISTS (SELECT 1 FROM {TAGS} WHERE {TAGS}.job_id = {JOBS}.id AND {TAGS}.name = %s)"
    return Condition((part,), Sql(look, (name,)))


def plain(column: str) -> str:
    """The column so that SQLite, which knows little of how many jobs fit, does not take an index of it."""
    return f"+{column}" if connection.vendor == "sqlite" else column


def both(*conditions: Sql) -> Sql:
    return Sql(
        " AND ".join(condition.text for condition in conditions) or "TRUE",
        tuple(value for condition in conditions for value in condition.values),
    )


def together(statements: Sequence[Sql]) -> Sql:
    """What all of them find, one after the other."""
    return Sql(
        " UNION ALL ".join(statement.text for statement in statements),
        tuple(value for statement in statements for value in statement.values),
    )


def walk(
    parts: Sequence[ConditionPart], looks: Sequence[Sql], *, direction: str = "DESC", most: int = NO_LIMIT
) -> Sql:
    """In order, the numbers of those on which the looks agree, among so many. Who limits it makes it read no further.

    The parts are merged first and looked at then: of one in which nothing fits no more is read than of the others.
    """
    order = f"ORDER BY id {direction} LIMIT %s"
    each = [part.looked_at(*looks) for part in parts]
    if connection.vendor == "postgresql" and len(parts) > 1:  # it merges only what it was told is in order
        each = [Sql(f"({one.text} {order})", (*one.values, most)) for one in each]
    merged = together(each)
    return Sql(f"SELECT id FROM ({merged.text} {order}) AS walked WHERE fits", (*merged.values, most))


def _marks(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))
