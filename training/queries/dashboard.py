"""The numbers of the admin's first page: jobs by status, what runs, what waits and why, hosts, and what failed."""

from __future__ import annotations

from typing import Any

from django.db.models import Count

from training import placement, policy, queries
from training.lifecycle import Status
from training.models import Node
from training.queries.nodes import state_of

NUM_RUNNING, NUM_WAITING, NUM_FAILED = 20, 10, 8


def dashboard_dict(user: Any) -> dict[str, Any]:
    visible = policy.visible_jobs(user)
    with_relations = queries.with_relations(visible)
    running = with_relations.filter(status=Status.RUNNING).order_by("-started_at", "-id")
    queued = with_relations.filter(placement.IN_QUEUE).order_by(*placement.IN_ORDER)
    failed = with_relations.filter(status=Status.FAILED).order_by("-completed_at", "-id")
    counts = dict(visible.values_list("status").annotate(Count("id")).order_by())
    return {
        "counts": [(str(status), counts.get(status, 0)) for status in Status],
        "running": queries.dicts(running[:NUM_RUNNING], user),
        "queued": queries.dicts(queued[:NUM_WAITING], user),
        "failed": queries.dicts(failed[:NUM_FAILED], user),
        "nodes": _nodes(),
    }


def _nodes() -> list[dict[str, Any]]:
    live, busy = set(placement.live_nodes().values_list("pk", flat=True)), placement.busy_slots()
    return [
        {
            "name": node.name,
            "state": state_of(node, node.pk in live, is_busy=bool(busy[node.pk])),
            "slots": node.slots,
            "busy": len(busy[node.pk]),
            "last_seen_at": node.last_seen_at,
        }
        for node in Node.objects.order_by("name")
    ]
