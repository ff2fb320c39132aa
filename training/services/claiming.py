"""How a supervisor takes the best queued job for its slot."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, Q, QuerySet, Subquery

from training import placement
from training.models import Attempt, GangMember, HeldSlot, Node, TrainingJob
from training.services import gathering
from training.services.beginning import ClaimChoice, Supervisor, begin
from training.services.transition import Raced


class SlotsNeeded(Exception):
    """The best job is one of several ranks, and the caller does not hold all the slots that it would take."""

    def __init__(self, slots: list[int]):
        super().__init__(f"slots {slots}")
        self.slots = slots


def claim(
    node: Node,
    *,
    slot: int,
    pid: int,
    pid_started_at: float = 0.0,
    held: Collection[int] | None = None,
    job_id: int | None = None,
    is_just_read: bool = False,
) -> Attempt | GangMember | None:
    """Make the best queued job ours with one conditional UPDATE, or return None where there is nothing to do.

    Of a job of several hosts an offer is left, unless this is the last host that it needs.

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
                who = Supervisor(slot, pid, pid_started_at)
                take = begin if choice.job.num_hosts == 1 else gathering.take_part
                return take(choice, node, who)
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
    node: Node, slot: int, *, job_id: int | None = None, lock: bool = True, but: tuple[int, ...] = ()
) -> ClaimChoice | None:
    """What this slot is to run, with the job's row locked; None too where the node takes no jobs or has no such slot.

    but: jobs of more hosts than there are, for which no slots are kept.
    """
    if not placement.takes_jobs(node) or not 0 <= slot < node.slots:
        return None
    fitting = placement.fits(node, slot)
    if but:
        fitting &= ~Q(pk__in=but)
    sql, values = _best_first(connection.vendor, fitting, node.pk, slot, job_id, lock)
    best: Any = next(iter(TrainingJob.objects.raw(sql, values)), None)
    if best is None or (best.first_gang is None and best.most_devices == 1):
        return best and ClaimChoice(best, [slot])
    choice, gang = _choose(best, placement.room_around(node, slot), slot, lock=lock)
    if choice is None and gang is not None and not placement.has_enough_hosts(gang):
        return _next_in_queue(node, slot, job_id=job_id, lock=lock, but=(*but, gang.pk))
    return choice


def _choose(best: Any, room: placement.Room, slot: int, *, lock: bool) -> tuple[ClaimChoice | None, Any]:
    """The best job, as long as no gang goes before it; that gang; or what may fill the gap until the gang starts.

    Returns the gang that waits, too.
    """
    gang: Any = best
    if best.first_gang != best.pk:
        gang = best.first_gang and TrainingJob.objects.filter(pk=best.first_gang).first()
        if gang is None or placement.goes_before(best, gang):
            return _taking(best, room, slot), None
    elif (ranks := placement.num_ranks(gang, len(room.free))) and placement.others_are_ready(gang, room.node):
        return ClaimChoice(gang, room.slots_around(slot, ranks)), None
    if not placement.has_enough_hosts(gang) or placement.is_within_reach(gang, room):
        return None, gang
    later = _candidates(placement.fits(room.node, slot), room.node.pk, slot, lock).exclude(pk=gang.pk)
    filler = later.filter(placement.GIVES_WAY, fewest_devices__lte=len(room.free), num_hosts=1).first()
    return (None if filler is None else _taking(filler, room, slot, fills=True)), gang


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
    gangs = placement.waiting_gangs().filter(fitting).values("pk")[:1]
    jobs = _candidates(fitting, node, slot, lock).annotate(first_gang=Subquery(gangs))
    if job_id is not None:
        jobs = jobs.filter(pk=job_id)
    return jobs[:1].query.get_compiler(connection=connection).as_sql()


def _candidates(fitting: Q, node: int, slot: int, lock: bool) -> QuerySet[TrainingJob]:
    """What the slot could run, unless a job of several ranks holds the slot already."""
    is_taken = Exists(HeldSlot.objects.filter(node=node, slot=slot))
    jobs = placement.claimable_jobs().filter(~is_taken, fitting).order_by(*placement.IN_ORDER)
    return jobs.select_for_update(of=("self",), skip_locked=True) if lock else jobs
