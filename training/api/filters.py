"""Which jobs a list shows and in which order."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Q, QuerySet

from training.api.params import BIGGEST, Number, Param
from training.lifecycle import JobType, Status
from training.models import TrainingJob

_SORTABLE = ("id", "job_name", "status", "priority", "created_at", "started_at", "completed_at", "updated_at")
ORDERINGS = tuple(sign + name for name in _SORTABLE for sign in ("", "-"))

FILTERS: tuple[Param, ...] = (
    Param("status", "Only jobs in one of these statuses.", choices=tuple(map(str, Status)), many=True),
    Param("job_type", "Only jobs of this type.", choices=tuple(map(str, JobType))),
    Param("recipe", "Only jobs of this recipe."),
    Param("owner", "Only jobs of the user with this name.", longest=150),
    Param("team", "Only jobs of the team with this name.", longest=150),
    Number("parent", "Only jobs that were made from this one."),
    Param("search", "Only jobs with this text in their name or description, or with this id."),
    Param("ordering", "By which field; a minus turns the order around.", default="-id", choices=ORDERINGS),
)


class JobFilter(django_filters.FilterSet):
    """The filters of the API, and of any other list that wants the same ones."""

    status = django_filters.MultipleChoiceFilter(
        choices=[(str(status), str(status)) for status in Status], distinct=False
    )
    job_type = django_filters.ChoiceFilter(choices=[(str(kind), str(kind)) for kind in JobType])
    recipe = django_filters.CharFilter(strip=False)
    owner = django_filters.CharFilter(field_name="owner__username", strip=False)
    team = django_filters.CharFilter(field_name="team__name", strip=False)
    parent = django_filters.NumberFilter(field_name="parent_id", min_value=0, max_value=BIGGEST)
    search = django_filters.CharFilter(method="in_text", strip=False)

    class Meta:
        model = TrainingJob
        fields: list[str] = []

    def in_text(self, jobs: QuerySet[TrainingJob], name: str, text: str) -> QuerySet[TrainingJob]:
        found = Q(job_name__icontains=text) | Q(description__icontains=text)
        if text.isascii() and text.isdigit() and int(text) <= BIGGEST:
            found |= Q(pk=int(text))
        return jobs.filter(found)


def filtered(jobs: QuerySet[TrainingJob], values: dict[str, Any]) -> QuerySet[TrainingJob]:
    """The jobs that fit, in the order asked for; equal ones by their number."""
    if any(isinstance(value, str) and _is_nowhere(value) for value in values.values()):
        return jobs.none()
    first = str(values.get("ordering") or "-id")
    given = {
        name: value for name, value in values.items() if value is not None and name in JobFilter.base_filters
    }
    found = JobFilter(given, queryset=jobs).qs if given else jobs
    sign = "-" if first.startswith("-") else ""
    return found.order_by(*dict.fromkeys([first, f"{sign}id"]))


def _is_nowhere(text: str) -> bool:
    """No text in the database holds a NUL or half of a surrogate pair, and databases refuse to look for one."""
    return "\x00" in text or any("\ud800" <= sign <= "\udfff" for sign in text)
