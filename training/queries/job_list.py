"""Lists of jobs that cost the same among a thousand jobs and among a million.

1. Each condition is counted alone by its index, up to COUNT_LIMIT jobs or, where that does not tell, to MAX_SCANNED.
   The one that fits fewest leads to the jobs, and each of those is looked at for the others.
2. In the order of numbers the leader's index has its jobs as they are wanted: it is read until the page is full.
3. For another order few jobs are all read and sorted; where they are many, the index that has all jobs in the wanted
   order is walked until the page is full.
A page goes on from the last job of the one before (keyset.py), so a late page costs what the first one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils import timezone

from training import policy
from training.errors import NotFound
from training.fields import MAX_TAGS
from training.lifecycle import Status
from training.queries import columns, full_text
from training.queries.column_order import ColumnOrder
from training.queries.conditions import (
    ALL,
    JOBS,
    NONE,
    Condition,
    Sql,
    both,
    created,
    equal,
    plain,
    tagged,
    together,
    visible,
    walk,
)
from training.queries.keyset import CursorPosition, Order
from training.queries.rows import Row, dicts_of, read_rows
from training.statements import rows_of

COUNT_LIMIT = 1_000  # jobs are counted up to here, and pages are numbered up to here
MAX_SCANNED = 3_000  # jobs of one condition, at most, that are all looked at, to count or to sort them
MAX_WALKED = 4 * COUNT_LIMIT  # the newest of one condition, looked at where more than COUNT_LIMIT fit each


@dataclass(frozen=True)
class JobQuery:
    """Which jobs a list is to show, and in which order. As it stands: all of them, the newest first."""

    status: Sequence[str] | None = None
    job_type: str | None = None
    recipe: str | None = None
    owner: str | None = None
    team: str | None = None
    parent_id: int | None = None
    pool: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    tags: Sequence[str] = ()
    search: str | None = None
    where: Sequence[columns.Comparison] = ()
    ordering: str = "-id"


@dataclass(frozen=True)
class Count:
    """How many jobs there are, or, where that is not exact, how many there are at least."""

    jobs: int
    is_exact: bool = True

    @classmethod
    def of(cls, found: int, *, is_all: bool = True) -> Count:
        return cls(min(found, COUNT_LIMIT), is_all and found <= COUNT_LIMIT)

    def at_least(self, shown: int) -> Count:
        return self if self.is_exact else replace(self, jobs=min(max(self.jobs, shown), COUNT_LIMIT))


@dataclass(frozen=True)
class Page:
    jobs: list[dict[str, Any]]
    count: Count
    plan: ListPlan
    previous: str | None = None  # cursors
    next: str | None = None


def beginning_of(day: date | None, *, later: int = 0) -> datetime | None:
    """Midnight before that day, or before one later, in the server's time zone."""
    if day is None:
        return None
    return timezone.make_aware(datetime.combine(day + timedelta(days=later), time.min))


def page(
    actor: Any,
    wanted: JobQuery,
    *,
    size: int,
    number: int = 1,
    cursor: str | None = None,
    plan: ListPlan | None = None,
) -> Page:
    """Jobs from a cursor on, or of a page by its number. Raises NotFound for a page that is not there.

    `plan`: that of an earlier page of the same list, for whoever reads all of it and counts nothing again.
    """
    order = Order.of(wanted.ordering)
    place = CursorPosition.read(cursor, wanted.ordering) if cursor is not None else None
    plan = plan or ListPlan.of(actor, wanted)
    skipped = 0 if place else (number - 1) * size
    if skipped and skipped >= plan.count.jobs:
        raise NotFound(_no_such_page(number, size, plan.count))
    found = plan.numbers(order, place, skipped + size + 1)[skipped:]
    backward, more = place is not None and place.backward, len(found) > size
    found = found[:size][::-1] if backward else found[:size]
    rows = read_rows(found, "id" if order.column else order.field)
    has_previous, has_next = (more, True) if backward else (skipped or place, more)
    return Page(
        dicts_of(rows, actor),
        plan.count.at_least(skipped + len(found)),
        plan,
        previous=_place(wanted, rows[0], backward=True) if rows and has_previous else None,
        next=_place(wanted, rows[-1]) if rows and has_next else None,
    )


def count(actor: Any, wanted: JobQuery) -> Count:
    return ListPlan.of(actor, wanted).count


def counts(actor: Any, wanted: JobQuery, seen: Page) -> dict[str, Count]:
    """How many there are in each status, whatever status is wanted. `seen`: a page of the wanted jobs."""
    plan = ListPlan.of(actor, replace(wanted, status=None)) if wanted.status else seen.plan
    if not plan.count.is_exact:
        return {str(status): count(actor, replace(wanted, status=[status])) for status in Status}
    found = plan.by_status()
    return {str(status): Count(found[status]) for status in Status}


@dataclass(frozen=True)
class ListPlan:
    """How the jobs of a list are found: the leader leads to them, and each is looked at for the others."""

    leader: Condition
    others: tuple[Sql, ...]
    is_few: bool  # at most MAX_SCANNED jobs, to which the leader leads
    count: Count

    @classmethod
    def of(cls, actor: Any, wanted: JobQuery) -> ListPlan:
        conditions = _conditions(actor, wanted) or [ALL]
        if not all(condition.parts for condition in conditions):
            return cls(NONE, (), True, Count(0))
        by_number, first = Order.of(wanted.ordering).field == "id", conditions[0]
        if len(conditions) == 1 and (first is ALL or (by_number and first.in_order)):
            # Its index is read until the page is full, however many there are beyond what is told.
            return cls(first, (), False, Count.of(_counted(conditions, COUNT_LIMIT)[0]))
        # In the order of numbers nothing is sorted: looking at fewer mostly tells enough of several conditions.
        early = by_number and len(conditions) > 1
        return cls._led(conditions, (COUNT_LIMIT, MAX_SCANNED) if early else (MAX_SCANNED,))

    @classmethod
    def _led(cls, conditions: Sequence[Condition], limits: Sequence[int]) -> ListPlan:
        """By the condition that fits fewest, as far as counts up to these limits tell. The later limit is for where
        the earlier one tells neither that few fit one of them nor that many fit all."""
        before, found = None, 0
        for most in limits:
            counts = _counted(conditions, most)
            if not min(counts):
                return cls(NONE, (), True, Count(0))
            leader = conditions[_leading(conditions, counts)]
            is_few = min(counts) <= most
            others = tuple(condition.look for condition in conditions if condition is not leader)
            if not is_few and not leader.in_order:
                leader, others = ALL, (*others, leader.look)
            if is_few or leader is not before:  # else it was counted as far as it will be
                found = _counted_together(leader, others, is_few) if len(conditions) > 1 else counts[0]
            if is_few or found > COUNT_LIMIT:
                break
            before = leader
        return cls(leader, others, is_few, Count.of(found, is_all=is_few))

    def numbers(self, order: Order, place: CursorPosition | None, most: int) -> list[int]:
        """The numbers of the first jobs beyond the place."""
        if not self.leader.parts:
            return []
        if order.field == "id" and self.leader.in_order:
            return self._in_order(order, place, most)
        found: list[int] = []
        for statement in self._ordered(order, place):
            if len(found) < most:
                limited = Sql(f"{statement.text} LIMIT %s", (*statement.values, most - len(found)))
                found += _first_column(limited)
        return found

    def _ordered(self, order: Order, place: CursorPosition | None) -> Iterator[Sql]:
        """Statements that find the jobs beyond the place one after the other."""
        looks, column = (self.leader.look, *self.others), str
        few = _found(self.leader, self.others) if self.is_few else None
        if order.column:
            yield from ColumnOrder(order.column, order.descending, looks, few).statements(place)
            return
        if few:
            looks, column = (Sql(f"id IN ({few.text})", few.values),), plain
        for condition, by in order.segments(place, column):
            where = both(*looks, condition)
            yield Sql(f"SELECT id FROM {JOBS} WHERE {where.text} ORDER BY {by}", where.values)

    def _in_order(self, order: Order, place: CursorPosition | None, most: int) -> list[int]:
        descends = order.descending != (place is not None and place.backward)
        direction, sign = ("DESC", "<") if descends else ("ASC", ">")
        parts = self.leader.parts
        if place:
            parts = tuple(part.beyond(sign, place.number) for part in parts)
        walked = walk(parts, self.others, direction=direction)
        return _first_column(Sql(f"{walked.text} LIMIT %s", (*walked.values, most)))

    def by_status(self) -> Counter[str]:
        if not self.leader.parts:
            return Counter()
        few = _found(self.leader, self.others)
        text = f"SELECT status, count(*) FROM {JOBS} WHERE id IN ({few.text}) GROUP BY status"
        return Counter(dict(rows_of(Sql(text, few.values))))


def _conditions(actor: Any, wanted: JobQuery) -> list[Condition]:
    """What the actor may see, and each filter. Those that mostly fit fewer jobs come first: that one leads where
    counts do not tell."""
    words = (wanted.recipe, wanted.owner, wanted.team, wanted.pool, wanted.search, *wanted.tags)
    if any(text is not None and _is_nowhere(text) for text in words) or len(set(wanted.tags)) > MAX_TAGS:
        return [NONE]
    found = [tagged(name) for name in dict.fromkeys(wanted.tags)]
    found += columns.conditions(wanted.where)
    if wanted.search is not None:
        found.append(full_text.condition(wanted.search))
    found += _whose(actor, wanted)
    same = {name: getattr(wanted, name) for name in ("parent_id", "pool", "recipe")}
    found += [equal(name, [value]) for name, value in same.items() if value is not None]
    if wanted.created_after is not None:
        found.append(created(">=", wanted.created_after))
    if wanted.created_before is not None:
        found.append(created("<", wanted.created_before))
    if wanted.status:
        found.append(equal("status", wanted.status))
    if wanted.job_type is not None:
        found.append(equal("job_type", [wanted.job_type]))
    return found


def _whose(actor: Any, wanted: JobQuery) -> list[Condition]:
    """Names of people and teams are turned into numbers first."""
    found, owner = [], None
    if wanted.owner is not None:
        owner = _number_of(get_user_model(), get_user_model().USERNAME_FIELD, wanted.owner)
        found.append(equal("owner_id", [owner]) if owner else NONE)
    if wanted.team is not None:
        team = _number_of(Group, "name", wanted.team)
        found.append(equal("team_id", [team]) if team else NONE)
    return found + _may_see(actor, owner)


def _may_see(actor: Any, owner: int | None) -> list[Condition]:
    """Nothing where the actor sees all jobs of this owner anyway."""
    whose = policy.sees_jobs_of(actor)
    if whose is None or (owner is not None and owner == whose[0]):
        return []
    person, teams = whose
    return [visible(person, teams) if person is not None else NONE]


def _is_nowhere(text: str) -> bool:
    """No text in the database holds a NUL or half of a surrogate pair, and databases refuse to look for one."""
    return "\x00" in text or any("\ud800" <= sign <= "\udfff" for sign in text)


def _number_of(model: Any, field: str, name: str) -> int | None:
    return model.objects.filter(**{field: name}).values_list("pk", flat=True).first()


def _counted(conditions: Sequence[Condition], most: int) -> list[int]:
    """How many jobs each of them fits alone, up to one more than `most`."""
    each = [_up_to(most, _found(condition)) for condition in conditions]
    text = ", ".join(f"({one.text})" for one in each)
    return list(rows_of(Sql(f"SELECT {text}", tuple(value for one in each for value in one.values)))[0])


def _leading(conditions: Sequence[Condition], counts: Sequence[int]) -> int:
    """Which of them fits fewest."""
    return min(
        range(len(counts)),
        key=lambda at: (counts[at], not conditions[at].in_order, conditions[at].is_far),
    )


def _counted_together(leader: Condition, others: Sequence[Sql], is_few: bool) -> int:
    """How many fit all, up to one more than are told."""
    all_fit = _found(leader, others) if is_few else walk(leader.parts, others, most=MAX_WALKED)
    return _first_column(_up_to(COUNT_LIMIT, all_fit))[0]


def _found(leader: Condition, others: Sequence[Sql] = ()) -> Sql:
    return together([part.select(*others) for part in leader.parts])


def _up_to(most: int, found: Sql) -> Sql:
    return Sql(f"SELECT count(*) FROM ({found.text} LIMIT %s) AS found", (*found.values, most + 1))


def _first_column(statement: Sql) -> list[int]:
    return [row[0] for row in rows_of(statement)]


def _place(wanted: JobQuery, row: Row, *, backward: bool = False) -> str:
    column = Order.of(wanted.ordering).column
    value = columns.place_in(column, {"id": row.id, "config": row.config}) if column else row.place
    return CursorPosition(wanted.ordering, value, row.id, backward).as_text()


def _no_such_page(number: int, size: int, found: Count) -> str:
    last = max(1, -(-found.jobs // size))
    if found.is_exact:
        return f"There is no page {number}; the last is page {last}."
    return f"Pages are numbered up to {last} here; follow `next` from there."
