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
MOST_PARTS = 100  # of one condition; databases take some hundreds in a statement


class Sql(NamedTuple):
    text: str
    values: tuple[Any, ...] = ()


ANY = Sql("TRUE")


@dataclass(frozen=True)
class Part:
    """Jobs that one index finds. `number` is their number in the index's table."""

    where: Sql
    table: str = JOBS
    number: str = f"{JOBS}.id"

    def select(self, *looks: Sql, within: Sql = ANY) -> Sql:
        """Their numbers: of those on which these looks agree, `within` a range of numbers."""
        where = both(self.that(*looks).where, within)
        return Sql(f"SELECT {self.number} AS id FROM {self.table} WHERE {where.text}", where.values)

    def newest(self, most: int, *looks: Sql) -> Sql:
        """Rows, one for each that is found among so many of its newest jobs. Whoever limits them ends the reading."""
        look = self._at_job(*looks)
        looked = f"SELECT {look.text} AS fits FROM {self.table} WHERE {self.where.text}"
        text = f"SELECT 1 FROM ({looked} ORDER BY {self.number} DESC LIMIT %s) AS looked WHERE fits"
        return Sql(text, (*look.values, *self.where.values, most))

    def that(self, *looks: Sql) -> Part:
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

    parts: tuple[Part, ...]
    look: Sql
    in_order: bool = True

    @property
    def is_far(self) -> bool:
        """Whether an index of another table finds them, so that each job must be fetched to be looked at."""
        return any(part.table != JOBS for part in self.parts)


ALL = Condition((Part(ANY),), ANY)
NONE = Condition((), Sql("FALSE"))


def equal(column: str, values: Iterable[Any]) -> Condition:
    """A column with an index of its own, in the order of numbers within one value."""
    values = tuple(dict.fromkeys(values))
    parts = tuple(Part(Sql(f"{column} = %s", (value,))) for value in values)
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
        return Condition((Part(led),), look, in_order=False)
    own = Part(Sql("owner_id = %s", (owner,)))
    others = (Part(Sql("team_id = %s AND owner_id <> %s", (team, owner))) for team in teams)
    return Condition((own, *others), look)


def created(sign: str, moment: datetime) -> Condition:
    value = (connection.ops.adapt_datetimefield_value(moment),)
    led, look = (Sql(f"{column} {sign} %s", value) for column in ("created_at", plain("created_at")))
    return Condition((Part(led),), look, in_order=False)


def tagged(name: str) -> Condition:
    part = Part(Sql("name = %s", (name,)), TAGS, f"{TAGS}.job_id")
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


def _marks(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))
