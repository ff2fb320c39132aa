"""Which jobs a list shows and in which order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from training.lifecycle import JobType, Status
from training.presentation.exports import FORMATS
from training.presentation.params import Day, Number, Param
from training.queries import FIELDS
from training.queries.columns import (
    CONDITION_PATTERN,
    LONGEST_NAME,
    MOST,
    PATTERN,
    Column,
    Comparison,
    bounded,
)
from training.queries.job_list import JobQuery, beginning_of
from training.queries.keyset import ORDERING_PATTERN, SORTABLE, is_ordering

MOST_FIELDS = len(FIELDS) + MOST
LONGEST_CONDITION = 2 * LONGEST_NAME + 20


@dataclass(frozen=True)
class Where(Param):
    """Conditions on values of configs and on metrics. `config.seed__lt=9` says the same as `where=config.seed<9`."""

    def claims(self, name: str) -> bool:
        return re.match(r"(config|metric|lowest|highest)\.", name) is not None

    def read_claimed(self, name: str, values: list[str]) -> list[Comparison]:
        return [Comparison.of_parameter(name, value) for value in values]

    def read(self, values: list[str]) -> Any:
        return [Comparison.read(value) for value in values]

    def one_schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": LONGEST_CONDITION, "pattern": CONDITION_PATTERN}


@dataclass(frozen=True)
class Ordering(Param):
    def read_one(self, text: str) -> str:
        if not is_ordering(text):
            known = f"{', '.join(SORTABLE)}, or a column such as config.seed or -metric.val_loss"
            raise ValueError(f"{text[:60]!r} is not one of: {known}.")
        return text

    def one_schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": LONGEST_CONDITION, "pattern": ORDERING_PATTERN}


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
    Where(
        "where",
        "Only jobs whose config or metrics are so: config.learning_rate<0.1, metric.val_rmse<=3 (the newest value), "
        "lowest.val_rmse<2, highest.accuracy>0.9, config.optimizer=adam. Each is a parameter of its own, too: "
        "config.learning_rate__lt=0.1 (__lt, __lte, __gt, __gte, or none of them).",
        many=True,
        most=MOST,
    ),
    Ordering(
        "ordering",
        "By which field, or by a column such as metric.val_rmse, lowest.val_rmse or config.seed; a minus turns the "
        "order around. Jobs without a value come last.",
        default="-id",
    ),
)


@dataclass(frozen=True)
class FieldNames(Param):
    """Names of a job's fields, and of columns such as config.learning_rate and lowest.val_rmse."""

    def read(self, values: list[str]) -> list[str]:
        names = list(dict.fromkeys(name for value in values for name in value.split(",")))
        unknown = [name for name in names if name not in FIELDS and Column.named(name) is None]
        if unknown:
            raise ValueError(
                f"There is no field {unknown[0][:60]!r}. There are: {', '.join(FIELDS)}; and columns that begin with "
                "config., metric., lowest. or highest."
            )
        if len(names) > MOST_FIELDS:
            raise ValueError(f"At most {MOST_FIELDS} fields.")
        return names

    def one_schema(self) -> dict[str, Any]:
        return {
            "type": "string",
            "maxLength": LONGEST_CONDITION,
            "pattern": f"^({'|'.join(FIELDS)}|{PATTERN})$",
        }


FIELDS_PARAM = FieldNames(
    "fields",
    "Only these fields of each job, and columns such as config.learning_rate, metric.val_rmse (the newest value), "
    "lowest.val_rmse, highest.accuracy. The answer then has the media type application/vnd.heimdall.fields+json.",
    many=True,
    most=MOST_FIELDS,
)
FORMAT = Param("format", "As what kind of file.", default="csv", choices=tuple(FORMATS))


def wanted(values: dict[str, Any]) -> JobQuery:
    """What the parameters ask for."""
    names = ("status", "job_type", "recipe", "owner", "team", "pool", "search")
    asked = {name: values.get(name) for name in names}
    return JobQuery(
        parent_id=values.get("parent"),
        tags=values.get("tags") or (),
        created_after=beginning_of(values.get("created_after")),
        created_before=beginning_of(values.get("created_before"), later=1),
        where=bounded(values.get("where") or ()),
        ordering=values.get("ordering") or "-id",
        **asked,
    )
