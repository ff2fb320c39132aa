"""Which jobs a list shows: what its address says. The names are those of the API's list.

Filters.read("status=failed,cancelled&owner=me&ordering=-updated_at")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone

from heimdall.errors import InvalidInput
from training.lifecycle import JobType, Status
from training.queries.columns import Column, Comparison, is_column, read_all
from training.queries.job_list import JobQuery, beginning_of
from training.queries.keyset import is_ordering

ME = "me"  # whoever looks
NEWEST = "-id"
MOST_COLUMNS = 12  # that a list shows beside its own
SINCE = {
    "1d": ("Last 24 hours", timedelta(days=1)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}


@dataclass(frozen=True)
class Filters:
    """What the address of the list says; an empty value filters nothing."""

    status: str = ""  # one, or several with commas
    job_type: str = ""
    recipe: str = ""
    owner: str = ""  # a name, or ME
    team: str = ""
    pool: str = ""
    parent: str = ""  # the number of the job that they were made from
    tags: str = ""  # one, or several with commas: jobs that have all of them
    search: str = ""
    since: str = ""  # of SINCE
    created_after: str = ""  # days, in the server's time zone, both of them included
    created_before: str = ""
    where: str = ""  # conditions on columns (columns.py), one a line
    columns: str = ""  # what the list shows of each job beside its own columns, with commas (columns.py)
    ordering: str = NEWEST

    @classmethod
    def read(cls, query: str | QueryDict, *, strictly: bool = False) -> Filters:
        """What makes no sense is left out, or `strictly`: refused with InvalidInput."""
        given = QueryDict(query.removeprefix("?")) if isinstance(query, str) else query
        read = {name: _READERS[name](",".join(given.getlist(name))) for name in _READERS if name in given}
        read |= _where(given)
        if strictly:
            unknown = [
                name for name in given if name not in {*_READERS, "where"} and not _is_about_a_column(name)
            ]
            senseless = [name for name, value in read.items() if value is None]
            _refuse(unknown, senseless)
        return cls(**{name: value for name, value in read.items() if value})

    def wanted(self, user: Any) -> JobQuery:
        """The same for the reads, as this user means it."""
        after, before = self._days()
        return JobQuery(
            status=self.statuses or None,
            job_type=self.job_type or None,
            recipe=self.recipe or None,
            owner=(user.get_username() if self.owner == ME else self.owner) or None,
            team=self.team or None,
            pool=self.pool or None,
            parent_id=int(self.parent) if self.parent else None,
            tags=tuple(self.tags.split(",")) if self.tags else (),
            search=_without_sign(self.search) or None,
            created_after=after,
            created_before=before,
            where=read_all(self.conditions),
            ordering=self.ordering,
        )

    def query(self, **changes: Any) -> str:
        """As it stands in an address, with some of it changed; what is as usual is left out."""
        wanted = {field.name: changes.pop(field.name, getattr(self, field.name)) for field in fields(self)}
        if wanted["ordering"] == NEWEST:
            del wanted["ordering"]
        if wanted["where"]:
            wanted["where"] = wanted["where"].split("\n")
        given = {name: value for name, value in (wanted | changes).items() if value}
        return urlencode(given, safe=",", doseq=True)

    def url(self, **changes: Any) -> str:
        """The list's address with some of it changed; it begins at the first page."""
        query = self.query(**changes)
        return reverse("jobs") + (f"?{query}" if query else "")

    @property
    def statuses(self) -> tuple[str, ...]:
        return tuple(self.status.split(",")) if self.status else ()

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(self.where.split("\n")) if self.where else ()

    @property
    def narrows(self) -> bool:
        """Whether there may be jobs that it leaves out."""
        return replace(self, ordering=NEWEST, columns="") != Filters()

    @property
    def chosen_columns(self) -> tuple[Column, ...]:
        found = (Column.named(name) for name in self.columns.split(","))
        return tuple(column for column in found if column is not None)

    def _days(self) -> tuple[datetime | None, datetime | None]:
        after, before = (
            beginning_of(_date(self.created_after)),
            beginning_of(_date(self.created_before), later=1),
        )
        if self.since:
            recently = timezone.now() - SINCE[self.since][1]
            after = max(after, recently) if after else recently
        return after, before


def _text(value: str) -> str | None:
    value = value.strip()
    return value if len(value) <= 200 and "\x00" not in value else None


def _without_sign(search: str) -> str:
    """People write a job's number as #12."""
    return search[1:] if search.startswith("#") and search[1:].isdigit() else search


def _number(value: str) -> str | None:
    return value if not value or (value.isascii() and value.isdigit() and len(value) < 19) else None


def _words(value: str) -> str | None:
    """Separated by commas, each once."""
    words = dict.fromkeys(word for part in value.split(",") if (word := part.strip()))
    return _text(",".join(words))


def _statuses(value: str) -> str | None:
    words = _words(value)
    return words if words is not None and set(filter(None, words.split(","))) <= set(Status) else None


def _columns(value: str) -> str | None:
    words = _words(value)
    names = words.split(",") if words else []
    is_known = len(names) <= MOST_COLUMNS and all(Column.named(name) for name in names)
    return words if is_known else None


def _day(value: str) -> str | None:
    try:
        found = _date(value)
    except ValueError:
        return None
    return found.isoformat() if found and 1970 <= found.year < 3000 else None


def _date(value: str) -> date | None:
    return date.fromisoformat(value) if value else None


def _one_of(known: Any) -> Callable[[str], str | None]:
    return lambda value: value if not value or value in known else None


_READERS: dict[str, Callable[[str], str | None]] = {
    "status": _statuses,
    "job_type": _one_of(set(JobType)),
    "recipe": _text,
    "owner": _text,
    "team": _text,
    "pool": _text,
    "parent": _number,
    "tags": _words,
    "search": _text,
    "since": _one_of(SINCE),
    "created_after": _day,
    "created_before": _day,
    "columns": _columns,
    "ordering": lambda value: value if not value or is_ordering(value) else None,
}


def _is_about_a_column(name: str) -> bool:
    return is_column(name.rpartition("__")[0] or name) or is_column(name)


def _where(given: QueryDict) -> dict[str, str | None]:
    """Conditions on columns: as texts (where=config.seed<9), or each as a filter of its own (config.seed__lt=9)."""
    if not any(name == "where" or _is_about_a_column(name) for name in given):
        return {}
    try:
        found = [str(Comparison.read(text)) for text in given.getlist("where") if text]
        for name in given:
            if _is_about_a_column(name):
                found += [str(Comparison.of_parameter(name, value)) for value in given.getlist(name)]
        read_all(found)
    except (ValueError, InvalidInput):
        return {"where": None}
    return {"where": "\n".join(dict.fromkeys(found))}


def _refuse(unknown: list[str], senseless: list[str]) -> None:
    sentences = [f"There is no filter {name[:60]}." for name in unknown]
    sentences += [f"The filter {name} does not take what it was given." for name in senseless]
    if sentences:
        sentences.append(f"Known are: {', '.join(_READERS)}, where, and columns such as config.seed__lt.")
        raise InvalidInput({"query": sentences})
