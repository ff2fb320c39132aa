"""Which jobs a list shows and in which order."""

from __future__ import annotations

from typing import Any

from training.lifecycle import JobType, Status
from training.presentation.params import Day, Number, Param
from training.queries.job_list import JobQuery, beginning_of
from training.queries.keyset import ORDERINGS

FILTERS: tuple[Param, ...] = (
    Param("status", "Only jobs in one of these statuses.", choices=tuple(map(str, Status)), many=True),
    Param("job_type", "Only jobs of this type.", choices=tuple(map(str, JobType))),
    Param("recipe", "Only jobs of this recipe."),
    Param("owner", "Only jobs of the user with this name.", longest=150),
    Param("team", "Only jobs of the team with this name.", longest=150),
    Param("pool", "Only jobs that ask for this pool of nodes.", longest=50),
    Number("parent", "Only jobs that were made from this one."),
    Param("tags", "Only jobs with all of these tags.", many=True, longest=40),
    Day("created_after", "Only jobs that were submitted on this day or later."),
    Day("created_before", "Only jobs that were submitted on this day or earlier."),
    Param("search", "Only jobs with this text in their name or description, or with this id."),
    Param("ordering", "By which field; a minus turns the order around.", default="-id", choices=ORDERINGS),
)


def wanted(values: dict[str, Any]) -> JobQuery:
    """What the parameters ask for."""
    names = ("status", "job_type", "recipe", "owner", "team", "pool", "search")
    asked = {name: values.get(name) for name in names}
    return JobQuery(
        parent_id=values.get("parent"),
        tags=values.get("tags") or (),
        created_after=beginning_of(values.get("created_after")),
        created_before=beginning_of(values.get("created_before"), later=1),
        ordering=values.get("ordering") or "-id",
        **asked,
    )
