"""Files to take away, read page by page while they are sent: the list as the filters show it, and a job's values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_GET

from training import queries
from training.models import TrainingJob
from training.presentation import exports
from training.presentation.exports import cell, lines
from training.queries.curves import metrics_of
from training.queries.filters import Filters
from training.views.page import page, visible_job

METRIC_ROWS = 2_000


@page
@require_GET
def jobs(request: HttpRequest) -> StreamingHttpResponse:
    """CSV for a spreadsheet, or what ?format= says of exports.FORMATS: JSON is as the API has it."""
    word, filters = request.GET.get("format"), Filters.read(request.GET)
    word = word if word in exports.FORMATS else "csv"
    chosen = [str(column) for column in filters.chosen_columns]
    fields = [*exports.COLUMNS, *chosen] if chosen and word == "csv" else None
    return exports.send_jobs(request, exports.pages(request.user, filters.wanted(request.user)), word, fields)


@page
@require_GET
def metrics(request: HttpRequest, job_id: int) -> StreamingHttpResponse:
    """Everything that a job measured, step by step: CSV, or JSON with ?format=json."""
    seen = visible_job(request, job_id)
    if request.GET.get("format") == "json":
        pieces, media_type, word = exports.as_json(_metric_pages(seen)), "application/json", "json"
    else:
        pieces, media_type, word = _metric_csv(seen), "text/csv; charset=utf-8", "csv"
    return exports.send(request, pieces, media_type, f"job-{seen.pk}-metrics.{word}")


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
