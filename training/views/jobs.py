"""The list of jobs. Filters, order and page stand in the address, so that it can be shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from training import policy, queries
from training.lifecycle import Status
from training.models import TrainingJob
from training.recipes import registry
from training.views.page import PAGE_SIZE, page, whole

SORTS = {
    "newest": ("Newest first", ["-id"]),
    "oldest": ("Oldest first", ["id"]),
    "name": ("By name", ["job_name", "-id"]),
    "best": ("Best validation loss", [F("best_val_loss").asc(nulls_last=True), "-id"]),
    "changed": ("Changed last", ["-updated_at", "-id"]),
}


@page
@require_GET
def jobs(request: HttpRequest) -> HttpResponse:
    """The list. Filters, order and page stand in the address, so that it can be shared."""
    visible = policy.visible_jobs(request.user)
    filters = Filters.of(request)
    found = filters.apply(visible, request.user)
    counts = dict(
        filters.apply(visible, request.user, status=False)
        .values_list("status")
        .annotate(Count("id"))
        .order_by()
    )
    total = counts.get(filters.status, 0) if filters.status else sum(counts.values())
    first = (filters.page - 1) * PAGE_SIZE
    rows = list(queries.with_relations(found)[first : first + PAGE_SIZE])
    context = {
        "section": "jobs",
        "jobs": queries.dicts(rows, request.user),
        "anything": bool(counts) or visible.exists(),
        "filters": filters,
        "tabs": [_tab(filters, status, counts) for status in ("", *Status)],
        "recipes": registry.names(),
        "sorts": [(value, label) for value, (label, _) in SORTS.items()],
        "first": first + 1 if rows else 0,
        "last": first + len(rows),
        "total": total,
        "previous_url": filters.url(page=filters.page - 1) if filters.page > 1 else None,
        "next_url": filters.url(page=filters.page + 1) if first + len(rows) < total else None,
    }
    return render(request, "jobs.html", context)


@dataclass(frozen=True)
class Filters:
    """What the address of the list says. What makes no sense is left out."""

    status: str = ""
    q: str = ""
    recipe: str = ""
    owner: str = ""
    sort: str = "newest"
    page: int = 1

    @classmethod
    def of(cls, request: HttpRequest) -> Filters:
        get = request.GET.get
        return cls(
            status=get("status", "") if get("status") in set(Status) else "",
            q=get("q", "").replace("\x00", "").strip()[:200],
            recipe=get("recipe", "").replace("\x00", "")[:200],
            owner="me" if get("owner") == "me" else "",
            sort=get("sort", "newest") if get("sort") in SORTS else "newest",
            page=min(max(whole(get("page")), 1), 1_000_000),
        )

    def apply(self, found: QuerySet[TrainingJob], user: Any, *, status: bool = True) -> QuerySet[TrainingJob]:
        if status and self.status:
            found = found.filter(status=self.status)
        if self.recipe:
            found = found.filter(recipe=self.recipe)
        if self.owner:
            found = found.filter(owner=user)
        if self.q:
            number = whole(self.q.removeprefix("#"))
            found = found.filter(Q(job_name__icontains=self.q) | (Q(pk=number) if number else Q()))
        return found.order_by(*SORTS[self.sort][1])

    def url(self, **changes: Any) -> str:
        """The list's address with some of it changed; another filter starts at its first page."""
        names = ("status", "q", "recipe", "owner", "sort")
        wanted = {name: getattr(self, name) for name in names} | {"page": 1} | changes
        usual = {"sort": "newest", "page": 1}
        kept = {name: value for name, value in wanted.items() if value and value != usual.get(name)}
        return reverse("jobs") + (f"?{urlencode(kept)}" if kept else "")

    @property
    def is_plain(self) -> bool:
        """Whether this is the list of the newest jobs, which the socket shows by itself."""
        return self.url(page=self.page) == reverse("jobs")


def _tab(filters: Filters, status: str, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "label": status.capitalize() or "All",
        "url": filters.url(status=status),
        "current": filters.status == status,
        "count": counts.get(status, 0) if status else sum(counts.values()),
    }
