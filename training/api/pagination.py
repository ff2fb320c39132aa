"""One page shape for every list: {"count", "next", "previous", "results"}."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db.models import QuerySet
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.utils.urls import remove_query_param, replace_query_param

from training.errors import NotFound
from training.queries.job_list import Page


class Pages(PageNumberPagination):
    """What a list made by DRF itself would use; it answers in the same shape."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


def numbered(
    request: Request, values: dict[str, Any], found: QuerySet, shape: Callable[[Iterable[Any]], list[dict]]
) -> dict[str, Any]:
    """A page by the number among the values of PAGE and PAGE_SIZE; `shape` turns its rows into dicts."""
    page, size, count = values["page"], values["page_size"], found.order_by().count()
    start, last = (page - 1) * size, max(1, -(-count // size))
    if page > last:
        raise NotFound(f"There is no page {page}; the last is page {last}.")
    return {
        "count": count,
        "next": link(request, page=page + 1) if page < last else None,
        "previous": link(request, page=page - 1) if page > 1 else None,
        "results": shape(found[start : start + size]) if count else [],
    }


def beside(request: Request, page: Page) -> dict[str, Any]:
    """A page of jobs, and the addresses of those beside it."""
    found = {
        "count": page.count.jobs,
        "next": _from(request, page.next),
        "previous": _from(request, page.previous),
        "results": page.jobs,
    }
    return found if page.count.is_exact else found | {"count_is_exact": False}


def following(request: Request, rows: Sequence[dict], *, count: int, cursor: str) -> dict[str, Any]:
    """What follows a cursor. `count` counts all that follows it, `next` goes on after the last one shown."""
    more = count > len(rows) and rows
    return {
        "count": count,
        "next": link(request, after=rows[-1][cursor]) if more else None,
        "previous": None,
        "results": list(rows),
    }


def whole(rows: Sequence[dict]) -> dict[str, Any]:
    return {"count": len(rows), "next": None, "previous": None, "results": list(rows)}


def _from(request: Request, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    return remove_query_param(link(request, cursor=cursor), "page")


def link(request: Request, **changes: Any) -> str:
    url = request.build_absolute_uri()
    for name, value in changes.items():
        url = replace_query_param(url, name, value)
    return url
