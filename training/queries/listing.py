"""Lists of jobs that cost the same among a thousand jobs and among a million.

1. Each condition is counted alone, up to COUNT_LIMIT: an index answers that.
2. Where one of them fits few jobs, these are read and put in order.
3. Where all of them fit many, an index that is in the wanted order is walked until the page is full.
Few are those of which all are read sooner than a page of them is found by walking (_are_few).
A page goes on from the last job of the one before (cursor.py), so a late page costs what the first one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import cache, reduce
from heapq import merge
from itertools import islice
from operator import or_
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import (
    BigIntegerField,
    CharField,
    DateTimeField,
    Exists,
    Func,
    Max,
    OuterRef,
    Q,
    QuerySet,
)
from django.db.models import Count as Rows
from django.utils import timezone

from training import policy
from training.errors import NotFound
from training.lifecycle import Status
from training.models import Tag, TrainingJob
from training.queries import texts
from training.queries.cursor import Order, Place, Segment
from training.queries.rows import Row, dicts_of, read_rows

COUNT_LIMIT = 10_000  # jobs are counted up to here, and pages are numbered up to here
PAGE = 50  # jobs of a page, about
MOST_PARTS = 6  # of one condition that are read side by side

Condition = tuple[Q, ...]  # parts that share no job, each of which one index answers
NOTHING: Condition = (Q(id__in=()),)


@dataclass(frozen=True)
class Wanted:
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
    ordering: str = "-id"


@dataclass(frozen=True)
class Count:
    """How many jobs there are, or, where that is not exact, how many there are at least."""

    jobs: int
    is_exact: bool = True


@dataclass(frozen=True)
class Page:
    jobs: list[dict[str, Any]]
    count: Count
    plan: Plan
    previous: str | None = None  # cursors
    next: str | None = None


def beginning_of(day: date | None, *, later: int = 0) -> datetime | None:
    """Midnight before that day, or before one later, in the server's time zone."""
    if day is None:
        return None
    return timezone.make_aware(datetime.combine(day + timedelta(days=later), time.min))


def page(actor: Any, wanted: Wanted, *, size: int, number: int = 1, cursor: str | None = None) -> Page:
    """Jobs from a cursor on, or of a page by its number. Raises NotFound for a page that is not there."""
    order = Order.of(wanted.ordering)
    place = Place.read(cursor, wanted.ordering) if cursor is not None else None
    plan = Plan.of(actor, wanted)
    skipped = 0 if place else (number - 1) * size
    if skipped and skipped >= plan.count.jobs:
        raise NotFound(_no_such_page(number, size, plan.count))
    found = plan.numbers(order.segments(place), skipped + size + 1)[skipped:]
    backward, more = place is not None and place.backward, len(found) > size
    found = found[:size][::-1] if backward else found[:size]
    rows = read_rows(found, order.field)
    has_previous, has_next = (more, True) if backward else (skipped or place, more)
    return Page(
        dicts_of(rows, actor),
        plan.count,
        plan,
        previous=_place(wanted, rows[0], backward=True) if rows and has_previous else None,
        next=_place(wanted, rows[-1]) if rows and has_next else None,
    )


def count(actor: Any, wanted: Wanted) -> Count:
    return Plan.of(actor, wanted).count


def counts(actor: Any, wanted: Wanted, seen: Page) -> dict[str, Count]:
    """How many there are in each status, whatever status is wanted. `seen`: a page of the wanted jobs."""
    plan = Plan.of(actor, replace(wanted, status=None)) if wanted.status else seen.plan
    if not plan.count.is_exact:
        return {str(status): count(actor, replace(wanted, status=[status])) for status in Status}
    found: Counter[str] = Counter()
    for part in plan.parts:
        found.update(dict(part.values_list("status").annotate(Rows("id"))))
    return {str(status): Count(found[status]) for status in Status}


@dataclass(frozen=True)
class Plan:
    """How the jobs of a list are found: in parts that share no job and are read side by side."""

    parts: list[QuerySet[TrainingJob]]
    count: Count

    @classmethod
    def of(cls, actor: Any, wanted: Wanted) -> Plan:
        conditions = _conditions(actor, wanted)
        if not conditions:
            return cls([_jobs()], _counted([_jobs()]))
        counts = [_counted([_led_by(part, None, []) for part in condition]) for condition in conditions]
        fewest = min(range(len(counts)), key=lambda place: counts[place].jobs)
        leader = [_led_by(reduce(or_, conditions[fewest]), fewest, conditions)]
        parts = leader if _are_few(counts[fewest]) else _among_many(conditions, wanted)
        counted = leader if counts[fewest].is_exact else parts
        return cls(parts, counts[0] if len(counts) == 1 else _counted(counted))

    def numbers(self, segments: list[Segment], wanted: int) -> list[int]:
        """The numbers of the first jobs: segment by segment, until there are enough."""
        found: list[int] = []
        for condition, order in segments:
            left = wanted - len(found)
            if left > 0:
                read = [
                    part.filter(condition).order_by(*order).values_list("id", flat=True)[:left]
                    for part in self.parts
                ]
                found += islice(merge(*read, reverse=order[-1] == "-id"), left) if len(read) > 1 else read[0]
        return found


def _conditions(actor: Any, wanted: Wanted) -> list[Condition]:
    """What the actor may see, and each filter. Names of people and teams are turned into numbers first."""
    words = (wanted.recipe, wanted.owner, wanted.team, wanted.pool, wanted.search, *wanted.tags)
    if any(text is not None and _is_nowhere(text) for text in words):
        return [NOTHING]
    found: list[Condition] = []
    if wanted.status:
        found.append(tuple(Q(status=status) for status in dict.fromkeys(wanted.status)))
    equal = {name: getattr(wanted, name) for name in ("job_type", "recipe", "parent_id", "pool")}
    found += [(Q(**{name: value}),) for name, value in equal.items() if value is not None]
    if wanted.created_after is not None:
        found.append((Q(created_at__gte=wanted.created_after),))
    if wanted.created_before is not None:
        found.append((Q(created_at__lt=wanted.created_before),))
    found += [(Q(tag_rows__name=tag),) for tag in dict.fromkeys(wanted.tags)]
    if wanted.search is not None:
        found.append(_in_text(wanted.search))
    owner = team = None
    if wanted.owner is not None:
        owner = _number_of(get_user_model(), get_user_model().USERNAME_FIELD, wanted.owner)
        found.append((Q(owner_id=owner),) if owner else NOTHING)
    if wanted.team is not None:
        team = _number_of(Group, "name", wanted.team)
        found.append((Q(team_id=team),) if team else NOTHING)
    scope = policy.visible_parts(actor)
    if scope is not None and (owner is None or owner != getattr(actor, "pk", None)):
        found.append(scope or NOTHING)
    return found


def _in_text(text: str) -> Condition:
    """By the index where there is one, else in the newest jobs alone; a number finds its job as well."""
    found = Q(in_text=text)
    if texts.by_index(text, connection, most=1) is None:
        found = texts.among_newest() & found
    if text.isascii() and text.isdigit() and int(text) < 2**63:
        found |= Q(id=int(text))
    return (found,)


def _is_nowhere(text: str) -> bool:
    """No text in the database holds a NUL or half of a surrogate pair, and databases refuse to look for one."""
    return "\x00" in text or any("\ud800" <= sign <= "\udfff" for sign in text)


def _number_of(model: Any, field: str, name: str) -> int | None:
    return model.objects.filter(**{field: name}).values_list("pk", flat=True).first()


def _are_few(found: Count) -> bool:
    """Whether reading all of them is less than walking along all jobs until a page of them is found."""
    if not found.is_exact or found.jobs <= PAGE:
        return found.is_exact
    newest = TrainingJob.objects.aggregate(newest=Max("id"))["newest"] or 0
    return found.jobs**2 <= PAGE * newest


def _among_many(conditions: list[Condition], wanted: Wanted) -> list[QuerySet[TrainingJob]]:
    """Each condition fits many jobs. Most of their indexes are in the order of numbers; for other orders it is
    quicker to walk along and look at each job, for there are many that fit."""
    in_order = [place for place, condition in enumerate(conditions) if _is_in_order(condition[0])]
    by_parts = min(in_order, key=lambda place: len(conditions[place]), default=None)
    if wanted.ordering in {"id", "-id"} and by_parts is not None and len(conditions[by_parts]) <= MOST_PARTS:
        return [_led_by(part, by_parts, conditions) for part in conditions[by_parts]]
    return [_led_by(Q(), None, conditions)]


def _led_by(leader: Q, place: int | None, conditions: list[Condition]) -> QuerySet[TrainingJob]:
    """The jobs that fit all conditions, found by the one at this place."""
    others = [reduce(or_, condition) for at, condition in enumerate(conditions) if at != place]
    looked_at = (_written(other, _looked_at) for other in others)
    return _jobs().filter(_written(leader, _by_index), *looked_at)


def _counted(parts: list[QuerySet[TrainingJob]]) -> Count:
    found = 0
    for part in parts:
        found += part[: COUNT_LIMIT + 1 - found].count()
        if found > COUNT_LIMIT:
            return Count(COUNT_LIMIT, is_exact=False)
    return Count(found)


class _Plain(Func):
    """A column under a plus: SQLite, which knows little of how many rows fit, does not use its index then."""

    template = "%(expressions)s"
    arity = 1

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="+%(expressions)s", **context)


_ORDERED = frozenset({"status", "job_type", "recipe", "parent_id", "owner_id", "team_id", "tag_rows__name"})
_NUMBERS = ("id", "owner_id", "team_id", "parent_id")
_WORDS = ("status", "job_type", "recipe", "pool", "job_name", "description")


@cache
def _jobs() -> QuerySet[TrainingJob]:
    numbers = {f"plain_{name}": _Plain(name, output_field=BigIntegerField()) for name in _NUMBERS}
    words = {f"plain_{name}": _Plain(name, output_field=CharField()) for name in _WORDS}
    moment = _Plain("created_at", output_field=DateTimeField())
    return TrainingJob.objects.order_by().alias(**numbers, **words, plain_created_at=moment)


def _written(condition: Q, write: Callable[[str, Any], Any]) -> Q:
    """The condition with each of its comparisons written anew."""
    found = condition.copy()
    found.children = [
        _written(child, write) if isinstance(child, Q) else write(*child) for child in condition.children
    ]
    return found


def _is_in_order(condition: Q) -> bool:
    """Whether the index that leads to these jobs has them in the order of their numbers."""
    names = (child for child in condition.children if not isinstance(child, Q))
    inner = (child for child in condition.children if isinstance(child, Q))
    return all(name in _ORDERED for name, _ in names) and all(_is_in_order(child) for child in inner)


def _by_index(name: str, value: Any) -> Any:
    if name == "in_text":
        return texts.by_index(value, connection, most=COUNT_LIMIT + 1) or texts.in_text(value)
    return (name, value)


def _looked_at(name: str, value: Any) -> Any:
    if name == "in_text":
        return _written(texts.in_text(value), _looked_at)
    if name == "tag_rows__name":
        return Exists(Tag.objects.filter(job_id=OuterRef("pk"), name=value))
    return (f"plain_{name}", value)


def _place(wanted: Wanted, row: Row, *, backward: bool = False) -> str:
    return Place(wanted.ordering, row.place, row.id, backward).as_text()


def _no_such_page(number: int, size: int, found: Count) -> str:
    last = max(1, -(-found.jobs // size))
    if found.is_exact:
        return f"There is no page {number}; the last is page {last}."
    return f"Pages are numbered up to {last} here; follow `next` from there."
