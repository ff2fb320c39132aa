"""The queue: who goes next, and what each waits for."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from training import policy, queries
from training.models import TrainingJob
from training.placement import waiting
from training.views.page import page

LONGEST = 200


@page
@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """In the order in which they are taken; jobs that one cannot see count and are not named."""
    queued = TrainingJob.objects.filter(waiting.IN_QUEUE)
    visible = policy.visible_jobs(request.user).filter(waiting.IN_QUEUE).order_by(*waiting.IN_ORDER)
    rows = list(queries.with_relations(visible)[:LONGEST])
    nodes = [node for node in waiting.live_nodes() if waiting.takes_jobs(node)]
    busy = waiting.busy_slots()
    context = {
        "section": "queue",
        "jobs": queries.dicts(rows, request.user),
        "num_waiting": queued.count(),
        "num_more": max(visible.count() - len(rows), 0) if len(rows) == LONGEST else 0,
        "num_slots": sum(node.slots for node in nodes),
        "num_free": sum(max(node.slots - busy[node.pk], 0) for node in nodes),
    }
    return render(request, "queue.html", context)
