"""The queue: who goes next, and what each waits for."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from training import placement, policy, queries
from training.models import TrainingJob
from training.views.page import page

LONGEST = 200


@page
@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """In the order in which they are taken; jobs that one cannot see count and are not named."""
    queued = TrainingJob.objects.filter(placement.IN_QUEUE)
    visible = policy.visible_jobs(request.user).filter(placement.IN_QUEUE).order_by(*placement.IN_ORDER)
    rows = list(queries.with_relations(visible)[:LONGEST])
    nodes = [node for node in placement.live_nodes() if placement.takes_jobs(node)]
    busy = placement.busy_slots()
    context = {
        "section": "queue",
        "jobs": queries.dicts(rows, request.user),
        "num_waiting": queued.count(),
        "num_more": max(visible.count() - len(rows), 0) if len(rows) == LONGEST else 0,
        "num_slots": sum(node.slots for node in nodes),
        "num_free": sum(len(placement.free_slots(node, busy)) for node in nodes),
    }
    return render(request, "queue.html", context)
