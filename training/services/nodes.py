"""The hosts' rows: what a worker writes about its own, and what people ask of one.

Draining a node is a request that its supervisors read beside the stop request of their job: each lands at the next
step and its job goes back to the queue, from its checkpoint, for another node. It lasts until somebody withdraws it,
whatever the worker does in between; `draining` is only the worker's word that it is about to stop.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from training import hardware, placement, policy, queue
from training.errors import NotFound, TransitionRefused
from training.lifecycle import Answer
from training.models import Attempt, Node, NodeEvent
from training.policy import System

WORKER = System("worker")


def boot_id() -> str:
    """Changes with each boot of this host; empty where the host does not tell."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def register_node() -> Node:
    """This host's row, with this boot, this worker and what the machine is made of."""
    facts: dict[str, Any] = {
        "boot_id": boot_id(),
        "slots": settings.SLOTS,
        "devices": hardware.devices(),
        "pools": settings.POOLS,
        "environments": hardware.environments(),
        "versions": hardware.versions(),
        "load": hardware.load(),
        "worker_pid": os.getpid(),
        "worker_started_at": Now(),
        "last_seen_at": Now(),
        "draining": False,
    }
    with transaction.atomic():
        node, _ = Node.objects.update_or_create(name=settings.NODE_NAME, defaults=facts)
        node.refresh_from_db()
        slots = f"{node.slots} slot{'s' if node.slots > 1 else ''}"
        _record(node, "start", f"Its worker started with {slots}.", by=WORKER)
    return node


def beat_node(node: Node) -> datetime:
    """Say that the worker lives, and how busy the machine is. A node that was taken out meanwhile comes back.

    Returns the time, in the database's clock.
    """
    facts = {"last_seen_at": Now(), "load": hardware.load()}
    if not Node.objects.filter(pk=node.pk).update(**facts):
        node.pk = register_node().pk
    node.refresh_from_db(fields=["last_seen_at"])
    assert node.last_seen_at is not None
    return node.last_seen_at


def set_draining(node: Node) -> None:
    """The worker is about to stop, and claims nothing more."""
    with transaction.atomic():
        if Node.objects.filter(pk=node.pk, draining=False).update(draining=True):
            _record(node, "stop", "Its worker is stopping.", by=WORKER)


def drain(node: Node, *, by: Any) -> tuple[Answer, str]:
    """Land the node's jobs and give it no more, until it is undrained."""
    policy.require_steering_nodes(by)
    with transaction.atomic():
        if not Node.objects.filter(pk=_read(node).pk, drained_at=None).update(drained_at=Now()):
            return Answer.ALREADY, f"Node {node.name} is drained already."
        _record(node, "drain", "Drained: its jobs go back to the queue, and it takes no more.", by=by)
    running = Attempt.objects.filter(node=node, ended_at=None).count()
    if running:
        jobs = f"{running} job{'s land' if running > 1 else ' lands'}"
        return Answer.NOTED, f"Node {node.name} takes no more jobs; {jobs} at the next step."
    return Answer.DONE, f"Node {node.name} is drained."


def undrain(node: Node, *, by: Any) -> tuple[Answer, str]:
    """Let the node take jobs again."""
    policy.require_steering_nodes(by)
    with transaction.atomic():
        if not Node.objects.filter(pk=_read(node).pk, drained_at__isnull=False).update(drained_at=None):
            return Answer.ALREADY, f"Node {node.name} is not drained."
        _record(node, "undrain", "Takes jobs again.", by=by)
        for _ in range(node.slots):
            queue.wake_host(node.name)
    return Answer.DONE, f"Node {node.name} takes jobs again."


def remove(node: Node, *, by: Any) -> tuple[Answer, str]:
    """Take out a node that is silent and holds no job. Its history stays, and so does what it computed."""
    policy.require_steering_nodes(by)
    with transaction.atomic():
        _read(node)
        if placement.live_nodes().filter(pk=node.pk).exists():
            raise TransitionRefused(
                f"Node {node.name} is alive. Stop its worker, and take it out "
                f"{placement.silent_after():.0f} s after it was heard last."
            )
        if Attempt.objects.filter(node=node, ended_at=None).exists():
            raise TransitionRefused(
                f"Node {node.name} still holds a job. It goes back to the queue when its lease has run out; "
                "take the node out then."
            )
        _record(node, "remove", "Taken out.", by=by)
        Node.objects.filter(pk=node.pk).delete()
    return Answer.DONE, f"Node {node.name} is taken out; a worker of this name brings it back."


NODE_VERBS = {"drain": drain, "undrain": undrain, "remove": remove}


def _read(node: Node) -> Node:
    """The row as it is now, locked, so that two who ask are told one after the other."""
    try:
        return Node.objects.select_for_update().get(pk=node.pk)
    except Node.DoesNotExist:
        raise NotFound(f"There is no node {node.name}.") from None


def _record(node: Node, kind: str, message: str, *, by: Any) -> None:
    NodeEvent.objects.create(
        node=node,
        name=node.name,
        kind=kind,
        message=message,
        actor=str(by)[:160],
        user=None if isinstance(by, System) else by,
    )
