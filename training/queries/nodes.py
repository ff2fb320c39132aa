"""The nodes as every door shows them: what they are, how busy they are, and the job of each slot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from training import placement, policy
from training.models import Attempt, HeldSlot, Node, NodeEvent, TrainingJob
from training.queries import iso

STATES = ("live", "draining", "drained", "stopping", "silent")
VERBS = ("drain", "undrain", "remove")


def node_dicts(nodes: Iterable[Node], actor: Any) -> list[dict[str, Any]]:
    """Three queries, however many nodes there are, and one more where jobs hold several slots. A job that the actor
    cannot see is shown as a taken slot."""
    nodes = list(nodes)
    live = set(placement.live_nodes().values_list("pk", flat=True))
    held: dict[int, dict[int, Attempt]] = defaultdict(dict)
    running = list(Attempt.objects.filter(ended_at=None, node__in=nodes).select_related("job").order_by("id"))
    for attempt in running:
        held[attempt.node_id or 0][attempt.slot] = attempt
    several = {attempt.pk: attempt for attempt in running if attempt.ranks > 1}
    for one in HeldSlot.objects.filter(attempt__in=several) if several else ():
        held[one.node_id][one.slot] = several[one.attempt_id]
    return [_node_dict(node, held[node.pk], node.pk in live, actor) for node in nodes]


def rank_dicts(job: TrainingJob) -> list[dict[str, Any]]:
    """Where each of several ranks computes, with what its GPU's driver said last; one query."""
    if not job.rank_devices:
        return []
    nodes = {
        node.name: node for node in Node.objects.filter(name__in={row["node"] for row in job.rank_devices})
    }
    return [row | {"gpu": _gpu_of(row, nodes.get(row["node"]))} for row in job.rank_devices]


def _gpu_of(row: dict[str, Any], node: Node | None) -> dict[str, Any] | None:
    """As the worker last measured it. A slot without a GPU has none; the GPUs stand in the order of their slots."""
    gpus = node.load.get("gpus", []) if node else []
    if row["slot"] >= len(gpus) or row["device"] == "cpu":
        return None
    gpu = gpus[row["slot"]]
    return gpu | {"memory_used": gpu["memory_total"] - gpu["memory_free"]}


def state_of(node: Node, is_live: bool, *, is_busy: bool) -> str:
    """One of STATES."""
    if not is_live:
        return "silent"
    if node.drained_at:
        return "draining" if is_busy else "drained"
    return "stopping" if node.draining else "live"


def node_events(name: str, limit: int = 100) -> list[NodeEvent]:
    """What happened to the node of this name, newest first."""
    return list(NodeEvent.objects.filter(name=name).order_by("-id")[:limit])


def node_event_dict(event: NodeEvent) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "message": event.message,
        "actor": event.actor,
        "created_at": iso(event.created_at),
    }


def _node_dict(node: Node, held: dict[int, Attempt], is_live: bool, actor: Any) -> dict[str, Any]:
    return {
        "name": node.name,
        "state": state_of(node, is_live, is_busy=bool(held)),
        "pools": node.pools,
        "environments": node.environments,
        "slots": [_slot_dict(node, slot, held.get(slot), actor) for slot in _slots(node, held)],
        "free_slots": max(node.slots - len(held), 0) if is_live and placement.takes_jobs(node) else 0,
        "cpu_percent": node.load.get("cpu_percent"),
        "cpu_count": node.load.get("cpu_count"),
        "memory_total": node.load.get("memory_total"),
        "memory_free": node.load.get("memory_free"),
        "gpus": node.load.get("gpus", []),
        "versions": node.versions,
        "worker_started_at": iso(node.worker_started_at),
        "last_seen_at": iso(node.last_seen_at),
        "drained_at": iso(node.drained_at),
        "verbs": _verbs(node, is_live, bool(held)) if policy.may_steer_nodes(actor) else [],
    }


def _slots(node: Node, held: dict[int, Attempt]) -> list[int]:
    """Those that the worker has now, and those of an earlier worker that still hold a job."""
    return sorted({*range(node.slots), *held})


def _slot_dict(node: Node, slot: int, attempt: Attempt | None, actor: Any) -> dict[str, Any]:
    device = node.devices[slot] if slot < len(node.devices) else {}
    job = attempt.job if attempt and policy.may(actor, policy.SEE, attempt.job) else None
    return {
        "slot": slot,
        "device": device.get("device", ""),
        "device_name": device.get("name", ""),
        "is_taken": attempt is not None,
        "job": job.pk if job else None,
        "job_name": job.job_name if job else "",
        "since": iso(attempt.started_at) if attempt else None,
    }


def _verbs(node: Node, is_live: bool, is_busy: bool) -> list[str]:
    """What may be asked of it now: the buttons."""
    found = ["undrain"] if node.drained_at else ["drain"]
    return found if is_live or is_busy else [*found, "remove"]
