"""The list as a file: every job that the filters show, read page by page while it is sent."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_GET

from training.queries import listing
from training.queries.filters import Filters
from training.views.page import page

ROWS = 500  # of one read
COLUMNS = (
    "id", "job_name", "status", "headline", "recipe", "job_type", "owner", "team", "pool", "tags", "priority",
    "current_epoch", "total_epochs", "current_step", "total_steps", "progress_percent", "eta_seconds", "train_loss",
    "val_loss", "best_epoch", "best_val_loss", "learning_rate", "attempt", "parent", "dataset", "error_code",
    "created_at", "queued_at", "started_at", "completed_at", "updated_at", "description",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@page
@require_GET
def jobs(request: HttpRequest) -> StreamingHttpResponse:
    """CSV for a spreadsheet, or JSON as the API has it (?format=json)."""
    as_json = request.GET.get("format") == "json"
    pages = _pages(request.user, Filters.read(request.GET))
    pieces = _json(pages) if as_json else _csv(pages)
    kind = "application/json" if as_json else "text/csv; charset=utf-8"
    response = StreamingHttpResponse(
        later(pieces) if isinstance(request, ASGIRequest) else pieces, content_type=kind
    )
    response["Content-Disposition"] = f'attachment; filename="jobs.{"json" if as_json else "csv"}"'
    return response


def _pages(user: Any, filters: Filters) -> Iterator[list[dict[str, Any]]]:
    wanted, cursor = filters.wanted(user), None
    while True:
        found = listing.page(user, wanted, size=ROWS, cursor=cursor)
        yield found.jobs
        cursor = found.next
        if cursor is None:
            return


def _csv(pages: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    yield lines([COLUMNS])
    for found in pages:
        yield lines([[cell(job.get(name)) for name in COLUMNS] for job in found])


def lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def cell(value: Any) -> Any:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    # A spreadsheet would take this for a formula, and somebody else wrote it.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _json(pages: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    before = "["
    for found in pages:
        if found:
            yield before + ",\n".join(json.dumps(job, cls=DjangoJSONEncoder) for job in found)
            before = ",\n"
    yield "[]\n" if before == "[" else "]\n"


async def later(pieces: Iterator[str]) -> AsyncIterator[str]:
    """The same under ASGI, where Django would gather a plain iterator in memory first."""
    while (piece := await sync_to_async(next)(pieces, None)) is not None:
        yield piece
