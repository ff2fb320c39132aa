"""The list of jobs. Filters, order and page stand in the address, so that it can be shared."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from heimdall.recipes import registry
from training import policy, services
from training.errors import NotFound
from training.lifecycle import USER_VERBS, Status
from training.models import Node, SavedView
from training.presentation import exports
from training.presentation.job_buttons import verb_button
from training.queries import job_list
from training.queries.columns import is_column, values_of
from training.queries.filters import ME, NEWEST, SINCE, Filters
from training.views.page import PAGE_SIZE, page, people_known_to
from training.views.sparklines import draw

_MOST_OFFERED = 200
# The columns that sort, with the order of the first press, and what else one may sort by.
COLUMNS = {
    "job_name": ("Job", "job_name"),
    "status": ("State", "status"),
    "best_val_loss": ("Best val", "best_val_loss"),
    "id": ("Created", "-id"),
}
ORDERS = (
    ("-id", "Newest first"),
    ("id", "Oldest first"),
    ("-updated_at", "Recently updated"),
    ("job_name", "By name"),
    ("best_val_loss", "Best validation loss"),
    ("-priority", "Highest priority"),
    ("-completed_at", "Ended last"),
)


@page
@require_GET
def jobs(request: HttpRequest) -> HttpResponse:
    """The list. A page goes on from the last job of the one before: the address holds the place as `cursor`."""
    filters = Filters.read(request.GET)
    wanted, cursor = filters.wanted(request.user), request.GET.get("cursor")
    try:
        found = job_list.page(request.user, wanted, size=PAGE_SIZE, cursor=cursor)
    except NotFound:  # a cursor of another order, or none at all
        found, cursor = job_list.page(request.user, wanted, size=PAGE_SIZE), None
    counts = job_list.counts(request.user, wanted, found)
    views = list(services.visible_views(request.user))
    context = {
        "section": "jobs",
        "jobs": found.jobs,
        "sparks": draw(found.jobs),
        "anything": bool(found.jobs) or filters.narrows or _anything(request.user),
        "filters": filters,
        "query": filters.query(),
        "chips": list(_chips(filters)),
        "is_plain": not filters.query() and not cursor,
        "tabs": [_tab(filters, status, counts) for status in ("", *Status)],
        "columns": {name: _column(filters, name) for name in COLUMNS},
        **_chosen_columns(filters, found.jobs),
        "count": found.count,
        "views": [_view(view, filters, request.user) for view in views],
        "view": next((view for view in views if view.query == filters.query() and view.query), None),
        "first_url": filters.url() if cursor else None,
        "previous_url": filters.url(cursor=found.previous) if found.previous else None,
        "next_url": filters.url(cursor=found.next) if found.next else None,
        "formats": exports.offered(),
        "bulk": [verb_button(verb) for verb in USER_VERBS],
    }
    return render(request, "jobs.html", context | _choices(request.user, filters))


def _tab(filters: Filters, status: str, counts: dict[str, job_list.Count]) -> dict[str, Any]:
    shown = counts[status] if status else _together(counts.values())
    return {
        "label": status.capitalize() or "All",
        "url": filters.url(status=status),
        "current": filters.status == status,
        "count": shown,
    }


def _together(counts: Any) -> job_list.Count:
    counts = list(counts)
    return job_list.Count(sum(one.jobs for one in counts), all(one.is_exact for one in counts))


def _anything(user: Any) -> bool:
    return job_list.count(user, job_list.JobQuery()).jobs > 0


def _chosen_columns(filters: Filters, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """The columns that the address names: their headers, each job's values, and what else there is to choose."""
    chosen = filters.chosen_columns
    values = values_of(jobs, chosen)
    for job in jobs:
        job["cells"] = [(str(column), values[job["id"]][str(column)]) for column in chosen]
    names = [f"config.{name}" for job in jobs for name in job["config"]]
    names += [f"metric.{name}" for job in jobs for name in ("val_loss", *job["metrics"])]
    return {
        "added": [_column(filters, str(column)) for column in chosen],
        "known_columns": sorted(set(names))[:_MOST_OFFERED],
    }


def _column(filters: Filters, name: str) -> dict[str, str]:
    """A header that sorts: pressed again it turns the order around."""
    label, first = COLUMNS.get(name, (name.partition(".")[2], name))
    now = filters.ordering
    turned = now.removeprefix("-") if now.startswith("-") else f"-{now}"
    is_current = now.removeprefix("-") == name
    return {
        "label": label,
        "url": filters.url(ordering=turned if is_current else first),
        "sorted": ("descending" if now.startswith("-") else "ascending") if is_current else "",
    }


def _chips(filters: Filters) -> Any:
    """Each filter that is set, in words, with the address of the list without it."""
    words = {
        "job_type": filters.job_type.replace("_", " "),
        "recipe": filters.recipe,
        "owner": "mine" if filters.owner == ME else filters.owner and f"by {filters.owner}",
        "team": filters.team and f"team {filters.team}",
        "pool": filters.pool and f"pool {filters.pool}",
        "parent": filters.parent and f"made from job {filters.parent}",
        "tags": filters.tags.replace(",", ", "),
        "search": filters.search and f"\u201c{filters.search}\u201d",
        "since": SINCE[filters.since][0].lower() if filters.since else "",
        "created_after": filters.created_after and f"from {filters.created_after}",
        "created_before": filters.created_before and f"until {filters.created_before}",
        "where": " and ".join(filters.conditions),
        "ordering": _order_in_words(filters.ordering),
    }
    for name, shown in words.items():
        if shown:
            yield {
                "name": name,
                "words": shown,
                "url": filters.url(**{name: NEWEST if name == "ordering" else ""}),
            }


def _orders(ordering: str) -> list[tuple[str, str]]:
    """Those of the menu, and the one of the address where it is by a column."""
    others = (
        [(ordering, _order_in_words(ordering).capitalize())] if is_column(ordering.removeprefix("-")) else []
    )
    return [*ORDERS, *others]


def _order_in_words(ordering: str) -> str:
    if ordering in {NEWEST, *COLUMNS}:
        return ""
    column = ordering.removeprefix("-")
    by_column = f"by {column}" + (", highest first" if ordering.startswith("-") else "")
    return dict(ORDERS).get(ordering, by_column if is_column(column) else "")


def _view(view: SavedView, filters: Filters, user: Any) -> dict[str, Any]:
    return {
        "id": view.pk,
        "name": view.name,
        "url": Filters.read(view.query).url(),
        "current": view.query == filters.query(),
        "is_mine": view.owner_id == user.pk,
        "owner": view.owner.get_username(),
        "team": view.team.name if view.team else "",
    }


def _choices(user: Any, filters: Filters) -> dict[str, Any]:
    """What the filters offer."""
    mine = list(policy.teams_of(user).values())
    teams = mine if not user.is_superuser else list(policy.teams().values_list("name", flat=True)[:200])
    people = [name for name in people_known_to(user) if name != user.get_username()]
    return {
        "recipes": _with(registry.names(), filters.recipe),
        "people": _with(people, filters.owner if filters.owner != ME else ""),
        "teams": _with(teams, filters.team),
        "my_teams": mine,
        "pools": _with(_pools(), filters.pool),
        "since": [(value, label) for value, (label, _) in SINCE.items()],
        "orders": _orders(filters.ordering),
    }


def _pools() -> list[str]:
    """Of all hosts, the silent ones too."""
    return sorted({pool for pools in Node.objects.values_list("pools", flat=True) for pool in pools})


def _with(names: list[str], chosen: str) -> list[str]:
    """The choice that the address names stands among the others even where nobody offered it."""
    return [*names, chosen] if chosen and chosen not in names else list(names)
