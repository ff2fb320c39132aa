"""How an attempt begins: the job runs, its slots are held, its other hosts belong to it, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F
from django.db.models.functions import Coalesce, Now

from training import host
from training.lifecycle import Verb
from training.models import Attempt, GangMember, HeldSlot, Node, TrainingJob
from training.services.clock import lease_end
from training.services.leases import WORKER
from training.services.rollback import rolled_back, to_checkpoint
from training.services.transition import move


@dataclass(frozen=True)
class ClaimChoice:
    """What a slot is to run: the job, the slots that it takes, and whether it fills a gap that a gang waits for."""

    job: TrainingJob
    slots: list[int]
    fills: bool = False


@dataclass(frozen=True)
class Supervisor:
    """Who claims: the slot that it holds, and its process."""

    slot: int
    pid: int
    started_at: float = 0.0


def begin(choice: ClaimChoice, node: Node, who: Supervisor, members: Sequence[GangMember] = ()) -> Attempt:
    """Make the job, whose row is locked, an attempt of this node. members: what other hosts offer to it."""
    job, devices = choice.job, _rank_devices(choice, node, members)
    ranks = len(devices) or 1
    start = job.latest_checkpoint
    message = f"Claimed by {node.name}{_words(choice, members)}."
    if rolled_back(job, start):
        message += f" Rolled back to step {start.step if start else 0}."
    has_history = bool(job.attempt or start)
    changes = (to_checkpoint(job, start) if has_history else {}) | {
        "attempt": job.attempt + 1,
        "lease_expires_at": lease_end(),
        "started_at": Coalesce(F("started_at"), Now()),
        "not_before": None,
        "phase": "starting",
        "ranks": ranks,
        "rank_devices": devices,
    }
    since = max(filter(None, (job.queued_at, _last_end(job))))
    move(job, Verb.CLAIM, by=WORKER, message=message, changes=changes, is_locked=True)
    attempt = Attempt.objects.create(
        waited_seconds=max((job.updated_at - since).total_seconds(), 0.0),
        job=job,
        number=job.attempt,
        node=node,
        node_name=node.name,
        boot_id=node.boot_id,
        slot=who.slot,
        ranks=ranks,
        rank_devices=devices,
        fills=choice.fills,
        rendezvous=host.meeting_place() if members else "",
        supervisor_pid=who.pid,
        supervisor_started_at=who.started_at,
        started_from=start,
        started_step=start.step if start else 0,
    )
    if ranks > 1:
        HeldSlot.objects.bulk_create([HeldSlot(attempt=attempt, node=node, slot=one) for one in choice.slots])
    for number, member in enumerate(members, start=1):
        GangMember.objects.filter(pk=member.pk).update(
            attempt=attempt, first_rank=number * len(choice.slots), seen_at=Now()
        )
        HeldSlot.objects.filter(member=member).update(attempt=attempt)
    return attempt


def _words(choice: ClaimChoice, members: Sequence[GangMember]) -> str:
    slots = ", ".join(map(str, choice.slots))
    words = f" with {len(choice.slots)} ranks on its slots {slots}" if len(choice.slots) > 1 else ""
    if members:
        words += f", together with {', '.join(member.node.name for member in members)}"
    return f"{words}, until a job that needs more slots can start" if choice.fills else words


def _rank_devices(choice: ClaimChoice, node: Node, members: Sequence[GangMember]) -> list[dict[str, Any]]:
    """Where each of several ranks computes, host by host."""
    places = [(node, slot) for slot in choice.slots]
    places += [(member.node, slot) for member in members for slot in member.slots]
    if len(places) == 1:
        return []
    return [
        {"rank": rank, "node": on.name, "slot": slot, **_device(on, slot), "pid": None}
        for rank, (on, slot) in enumerate(places)
    ]


def _device(node: Node, slot: int) -> dict[str, str]:
    device = node.devices[slot] if slot < len(node.devices) else {}
    return {"device": device.get("device", ""), "device_name": device.get("name", "")}


def _last_end(job: TrainingJob) -> datetime | None:
    """A job that went back to the queue keeps its place in it, but has not waited since then."""
    if not job.attempt:
        return None
    ended = Attempt.objects.filter(job=job, number=job.attempt).values_list("ended_at", flat=True)
    return ended.first()
