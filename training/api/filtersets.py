"""What django-filter does for lists of datasets, nodes and events: its fields read what is asked for, and its filters
narrow the rows. `params_of` makes each filter a parameter like any other: described, bounded, refused when unknown.

The list of jobs is not among them: it counts each condition alone before it plans the read (queries/job_list.py)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django_filters.rest_framework import CharFilter, ChoiceFilter, Filter, FilterSet
from rest_framework.request import Request

from training.models import Node
from training.presentation.params import Day, Param
from training.queries.job_list import beginning_of


class DayField(forms.DateField):
    """A date, of the server's time zone."""

    param = Day("day", "")

    def to_python(self, value: Any) -> date | None:
        try:
            return None if value is None else self.param.read_one(value)
        except ValueError as error:
            raise ValidationError(str(error)) from error


class SinceFilter(Filter):
    """Made on this day or later."""

    field_class = DayField

    def filter(self, rows: QuerySet, day: date | None) -> QuerySet:
        return rows.filter(created_at__gte=beginning_of(day)) if day else rows


class UntilFilter(Filter):
    """Made on this day or earlier."""

    field_class = DayField

    def filter(self, rows: QuerySet, day: date | None) -> QuerySet:
        return rows.filter(created_at__lt=beginning_of(day, later=1)) if day else rows


class DatasetFilters(FilterSet):
    recipe = CharFilter(label="Only datasets of this recipe.", max_length=200)
    owner = CharFilter("owner__username", label="Only datasets of the user with this name.", max_length=150)
    team = CharFilter("team__name", label="Only datasets of the team with this name.", max_length=150)
    created_after = SinceFilter(label="Only datasets that were begun on this day or later.")
    created_before = UntilFilter(label="Only datasets that were begun on this day or earlier.")
    search = CharFilter(
        "name", "icontains", label="Only datasets with this text in their name.", max_length=100
    )


class NodeFilters(FilterSet):
    pool = CharFilter(method="of_pool", label="Only nodes with this label.", max_length=50)
    drained = ChoiceFilter(
        method="by_state",
        choices=[("true", "true"), ("false", "false")],
        label="Only nodes that somebody drained, or only the others.",
    )

    def of_pool(self, rows: QuerySet[Node], name: str, pool: str) -> QuerySet[Node]:
        """SQLite cannot look into a list; there are as many rows as hosts."""
        return rows.filter(pk__in=[node.pk for node in rows if pool in node.pools])

    def by_state(self, rows: QuerySet[Node], name: str, word: str) -> QuerySet[Node]:
        return rows.filter(drained_at__isnull=word == "false")


class EventFilters(FilterSet):
    kind = CharFilter(label="Only events of this kind.", max_length=40)
    actor = CharFilter(label="Only what this one did.", max_length=160)
    created_after = SinceFilter(label="Only events of this day or later.")
    created_before = UntilFilter(label="Only events of this day or earlier.")


@dataclass(frozen=True)
class FilterParam(Param):
    """A parameter that a filter's field reads."""

    field: forms.Field = field(default_factory=forms.Field, hash=False)

    def read_one(self, text: str) -> Any:
        super().read_one(text)
        try:
            return self.field.clean(text)
        except ValidationError as error:
            raise ValueError(" ".join(error.messages)) from error

    def one_schema(self) -> dict[str, Any]:
        if isinstance(self.field, DayField):
            return self.field.param.one_schema()
        return super().one_schema() | ({} if self.choices else {"pattern": r"^[^\u0000]*$"})


def params_of(filters: type[FilterSet]) -> tuple[FilterParam, ...]:
    return tuple(
        FilterParam(
            name,
            str(one.label),
            choices=tuple(value for value, _ in one.extra.get("choices", ())),
            longest=one.extra.get("max_length", 200),
            field=one.field,
        )
        for name, one in filters.base_filters.items()
    )


def filtered(filters: type[FilterSet], request: Request, rows: QuerySet) -> QuerySet:
    """The rows that fit the request; its parameters were read before, by `params_of`."""
    return filters(request.query_params, rows).qs
