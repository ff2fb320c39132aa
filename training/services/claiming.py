"""How a supervisor takes the best queued job for its slot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, F, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now

from training import placement
from training.lifecycle import Verb
from training.models import (
    Attempt,
    HeldSlot,
    Node,
    TrainingJob,
)
from training.services.clock import lease_end
from training.services.leases import WORKER
from training.services.rollback import rolled_back, to_checkpoint
from training.services.transition import Raced, move


class SlotsNeeded(Exception):
    """The best job is one of several ranks, and the caller does not hold all the slots that it would take."""

    def __init__(self, slots: list[int]):
        super().__init__(f"slots {slots}")
        self.slots = slots


@dataclass(frozen=True)
class ClaimChoice:
    """What a slot is to run: the job, the slots that it takes, and whether it fills a gap that a gang waits for."""

    job: TrainingJob
    slots: list[int]
    fills: bool = False


def claim(
    node: Node,
    *,
    slot: int,
    pid: int,
    pid_started_at: float = 0.0,
    held: Collection[int] | None = None,
    job_id: int | None = None,
    is_just_read: bool = False,
) -> Attempt | None:
    """Make the best queued job ours with one conditional UPDATE, or return None where there is nothing to do.

    held: further slots that the caller has locked on its host; None: all that are free can be taken. A job of several
    ranks takes its slots in the same transaction, all or none. Raises SlotsNeeded where more have to be locked first.
    is_just_read: the node need not be read again. A drain that comes in between is heard with the attempt's first
    request, as one that comes right after the claim.
    """
    while True:
        try:
            with transaction.atomic():
                if not is_just_read:
                    _read_what_it_takes(node)
                choice = _next_in_queue(node, slot, job_id=job_id)
                if choice is None:
                    return None
                if held is not None and not {slot, *held}.issuperset(choice.slots):
                    raise SlotsNeeded(choice.slots)
                return _claim(choice, node, slot, pid, pid_started_at)
        except Raced:
            continue


def has_work_for(node: Node) -> bool:
    """Whether a free slot of the node could claim something now."""
    _read_what_it_takes(node)
    slots = placement.one_free_slot_of_each_kind(node)
    return any(_next_in_queue(node, slot, lock=False) for slot in slots)


def _read_what_it_takes(node: Node) -> None:
    node.refresh_from_db(fields=["pools", "environments", "draining", "drained_at"])


def _next_in_queue(
    node: Node, slot: int, *, job_id: int | None = None, lock: bool = True
) -> ClaimChoice | None:
    """What this slot is to run, with the job's row locked; None too where the node takes no jobs."""
    if not placement.takes_jobs(node):
        return None
    sql, values = _best_first(connection.vendor, placement.fits(node, slot), node.pk, slot, job_id, lock)
    best: Any = next(iter(TrainingJob.objects.raw(sql, values)), None)
    if best is None or (best.first_gang is None and best.most_devices == 1):
        return best and ClaimChoice(best, [slot])
    return _choose(best, placement.room_around(node, slot), slot, lock=lock)


def _choose(best: Any, room: placement.Room, slot: int, *, lock: bool) -> ClaimChoice | None:
    """The best job, as long as no gang goes before it; that gang; or what may fill the gap until the gang starts."""
    gang: Any = best
    if best.first_gang != best.pk:
        gang = best.first_gang and TrainingJob.objects.filter(pk=best.first_gang).first()
        if gang is None or placement.goes_before(best, gang):
            return _taking(best, room, slot)
    elif ranks := placement.num_ranks(gang, len(room.free)):
        return ClaimChoice(gang, room.slots_around(slot, ranks))
    if room.is_within_reach(gang):
        return None
    later = _candidates(placement.fits(room.node, slot), room.node.pk, slot, lock).exclude(pk=gang.pk)
    filler = later.filter(placement.GIVES_WAY, fewest_devices__lte=len(room.free)).first()
    if filler is None:
        return None
    return _taking(filler, room, slot, fills=True)


def _taking(job: TrainingJob, room: placement.Room, slot: int, *, fills: bool = False) -> ClaimChoice:
    free = placement.left_for_it(job, room, len(room.free))
    return ClaimChoice(job, room.slots_around(slot, placement.num_ranks(job, free)), fills)


@lru_cache(maxsize=64)
def _best_first(
    _vendor: str, fitting: Q, node: int, slot: int, job_id: int | None, lock: bool
) -> tuple[str, tuple[Any, ...]]:
    """The statement that finds and locks a claim's job. Making it costs Django five times what its answer costs.

    first_gang is the first job that needs several slots, also where somebody else has locked that one.
    """
    gangs = placement.waiting_gangs().filter(fitting, num_hosts=1).values("pk")[:1]
    jobs = _candidates(fitting, node, slot, lock).annotate(first_gang=Subquery(gangs))
    if job_id is not None:
        jobs = jobs.filter(pk=job_id)
    return jobs[:1].query.get_compiler(connection=connection).as_sql()


def _candidates(fitting: Q, node: int, slot: int, lock: bool) -> QuerySet[TrainingJob]:
    """What the slot could run, unless a job of several ranks holds the slot already."""
    is_taken = Exists(HeldSlot.objects.filter(node=node, slot=slot))
    jobs = placement.claimable_jobs().filter(~is_taken, fitting, num_hosts=1).order_by(*placement.IN_ORDER)
    return jobs.select_for_update(of=("self",), skip_locked=True) if lock else jobs


def _claim(choice: ClaimChoice, node: Node, slot: int, pid: int, pid_started_at: float) -> Attempt:
    job, ranks = choice.job, len(choice.slots)
    devices = _rank_devices(node, choice.slots) if ranks > 1 else []
    start = job.latest_checkpoint
    message = f"Claimed by {node.name}{_words(choice)}."
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
        slot=slot,
        ranks=ranks,
        rank_devices=devices,
        fills=choice.fills,
        supervisor_pid=pid,
        supervisor_started_at=pid_started_at,
        started_from=start,
        started_step=start.step if start else 0,
    )
    if ranks > 1:
        HeldSlot.objects.bulk_create([HeldSlot(attempt=attempt, node=node, slot=one) for one in choice.slots])
    return attempt


def _words(choice: ClaimChoice) -> str:
    slots = ", ".join(map(str, choice.slots))
    words = f" with {len(choice.slots)} ranks on its slots {slots}" if len(choice.slots) > 1 else ""
    return f"{words}, until a job that needs more slots can start" if choice.fills else words


def _rank_devices(node: Node, slots: list[int]) -> list[dict[str, Any]]:
    """Where each rank computes."""
    devices = [node.devices[slot] if slot < len(node.devices) else {} for slot in slots]
    return [
        {
            "rank": rank,
            "node": node.name,
            "slot": slot,
            "device": device.get("device", ""),
            "device_name": device.get("name", ""),
            "pid": None,
        }
        for rank, (slot, device) in enumerate(zip(slots, devices, strict=True))
    ]


def _last_end(job: TrainingJob) -> datetime | None:
    """A job that went back to the queue keeps its place in it, but has not waited since then."""
    if not job.attempt:
        return None
    ended = Attempt.objects.filter(job=job, number=job.attempt).values_list("ended_at", flat=True)
    return ended.first()
