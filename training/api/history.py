"""What a job measured, what happened to it, and what its trainer printed."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from training import queries
from training.api import pagination, serializers
from training.api.base import ApiView, find_job
from training.api.filtersets import EventFilters, filtered, params_of
from training.api.schema import answers, document
from training.models import Event, LogChunk, Metric
from training.presentation import params
from training.presentation.params import AFTER, LIMIT, Param

PER = Param(
    "per",
    "One row for each finished step, or for each finished epoch.",
    default="step",
    choices=("step", "epoch"),
)
EVENTS = (*params_of(EventFilters), AFTER, LIMIT)


class MetricListView(ApiView):
    @document(
        "list_metrics",
        "What the training measured",
        params=(PER, AFTER, LIMIT),
        answers=answers(200, serializers.page_of(serializers.MetricShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, (PER, AFTER, LIMIT))
        job, after, limit = find_job(request, pk), values["after"], values["limit"]
        rows = Metric.objects.filter(job=job, step__gt=after).order_by("step")
        if values["per"] == "epoch":
            rows = rows.filter(epoch_values__isnull=False)
            shown = [queries.epoch_dict(row) for row in rows[:limit]]
        else:
            shown = [queries.step_dict(row) for row in rows[:limit]]
        return Response(pagination.following(request, shown, count=_count(rows, shown, limit), cursor="step"))


class EventListView(ApiView):
    @document(
        "list_events",
        "What happened to the job",
        params=EVENTS,
        answers=answers(200, serializers.page_of(serializers.EventShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, EVENTS)
        job = find_job(request, pk)
        following = Event.objects.filter(job=job, seq__gt=values["after"]).order_by("seq")
        rows = filtered(EventFilters, request, following)
        shown = [queries.event_dict(event) for event in rows[: values["limit"]]]
        count = _count(rows, shown, values["limit"])
        return Response(pagination.following(request, shown, count=count, cursor="seq"))


class LogListView(ApiView):
    @document(
        "list_logs",
        "What the trainer printed",
        params=(AFTER, LIMIT),
        answers=answers(200, serializers.page_of(serializers.LogShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, (AFTER, LIMIT))
        job = find_job(request, pk)
        chunks = queries.log_after(job.pk, values["after"], values["limit"])
        shown = [
            {
                "id": chunk.pk,
                "attempt": chunk.attempt,
                "text": chunk.text,
                "created_at": queries.iso(chunk.created_at),
            }
            for chunk in chunks
        ]
        count = _count(LogChunk.objects.filter(job=job, pk__gt=values["after"]), shown, values["limit"])
        return Response(pagination.following(request, shown, count=count, cursor="id"))


def _count(rows: Any, shown: list[dict[str, Any]], limit: int) -> int:
    """How many follow the cursor; only asked of the database where more follow than are shown."""
    return len(shown) if len(shown) < limit else rows.count()
