"""Files to take away, read page by page while they are sent: the list as the filters show it, and a job's values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_GET

from training import queries
from training.models import TrainingJob
from training.queries import job_list
from training.queries.curves import metrics_of
from training.queries.filters import Filters
from training.views.page import page, visible_job

ROWS = 500  # of one read
METRIC_ROWS = 2_000
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
    return _sent(request, pieces, "jobs", as_json)


@page
@require_GET
def metrics(request: HttpRequest, job_id: int) -> StreamingHttpResponse:
    """Everything that a job measured, step by step: CSV, or JSON with ?format=json."""
    seen = visible_job(request, job_id)
    as_json = request.GET.get("format") == "json"
    pieces = _json(_metric_pages(seen)) if as_json else _metric_csv(seen)
    return _sent(request, pieces, f"job-{seen.pk}-metrics", as_json)


def _sent(request: HttpRequest, pieces: Iterator[str], name: str, as_json: bool) -> StreamingHttpResponse:
    kind = "application/json" if as_json else "text/csv; charset=utf-8"
    response = StreamingHttpResponse(
        later(pieces) if isinstance(request, ASGIRequest) else pieces, content_type=kind
    )
    response["Content-Disposition"] = f'attachment; filename="{name}.{"json" if as_json else "csv"}"'
    return response


def _pages(user: Any, filters: Filters) -> Iterator[list[dict[str, Any]]]:
    wanted, cursor = filters.wanted(user), None
    while True:
        found = job_list.page(user, wanted, size=ROWS, cursor=cursor)
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


def _metric_pages(job: TrainingJob) -> Iterator[list[dict[str, Any]]]:
    step = -1
    while rows := queries.steps_after(job.pk, step, METRIC_ROWS):
        yield [
            queries.step_dict(row) | {"at": queries.iso(row.created_at)} | _of_epoch(row.epoch_values)
            for row in rows
        ]
        step = rows[-1].step


def _of_epoch(values: dict[str, Any] | None) -> dict[str, Any]:
    return {f"epoch_{name}": value for name, value in (values or {}).items()}


def _metric_csv(job: TrainingJob) -> Iterator[str]:
    known = metrics_of(job)
    names = [one["name"] for one in known if one["per"] == "step"]
    closed = queries.epochs_of(job.pk, limit=1)
    of_epochs = [f"epoch_{name}" for name in (closed[0].epoch_values or {})] if closed else []
    columns = ["step", "epoch", "at", *names, *of_epochs]
    yield lines([[cell(name) for name in columns]])
    for rows in _metric_pages(job):
        yield lines([[cell(row.get(name)) for name in columns] for row in rows])


def _json(pages: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
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
