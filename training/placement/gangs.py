"""Jobs that need several slots of a host at once: how many of them they get, and who may use a slot meanwhile.

A gang holds nothing while it waits, and takes all of its slots in one transaction: no two gangs wait for each other.
Slots are kept for the first gang by order that a host could ever run. Whoever comes later may use one of them only if
it can be preempted without loss, and is preempted as soon as that makes enough slots free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from training.lifecycle import Stop
from training.models import Attempt, Node, TrainingJob
from training.placement.order import IN_ORDER, claimable_jobs, goes_before
from training.placement.slots import BusySlots, busy_slots, fits, groups_for, slot_groups

# A command without a checkpoint folder would begin again from nothing; all else goes on from where it was.
MOST_STARTABLE = 200  # of the queue's first that are looked at
GIVES_WAY = ~Q(recipe="") | ~Q(program__kind="command") | ~Q(program__checkpoint_folder="")


def gives_way(job: TrainingJob | Any) -> bool:
    """What GIVES_WAY says of one job: whether it can be preempted without loss."""
    return bool(job.recipe or job.program["kind"] != "command" or job.program["checkpoint_folder"])


def num_ranks(job: TrainingJob | Any, free: int) -> int:
    """How many of so many free slots the job takes; 0 where they are too few. An elastic one halves what it wants."""
    wanted = int(job.most_devices)
    while wanted > free and wanted % 2 == 0 and wanted // 2 >= job.fewest_devices:
        wanted //= 2
    return wanted if wanted <= free else 0


def left_for_it(job: TrainingJob | Any, room: Room, free: int) -> int:
    """How many of so many free slots an elastic job may take: it leaves one to each other job that waits for one."""
    if job.most_devices == job.fewest_devices:
        return free
    others = claimable_jobs().filter(fits(room.node, room.group[0]), is_gang=False).exclude(pk=job.pk)
    return max(free - len(others.values_list("pk")[:free]), job.fewest_devices)


@dataclass(frozen=True)
class Room:
    """What one group of slots of a node has: which are free, and the attempts that hold the others."""

    node: Node
    group: list[int]
    free: list[int]
    attempts: list[Attempt]  # open ones, with their jobs

    def fillers(self, gang: TrainingJob | Any) -> list[Attempt]:
        """Attempts that took a slot though this gang goes first."""
        return [one for one in self.attempts if one.fills and goes_before(gang, one.job)]

    def is_within_reach(self, gang: TrainingJob | Any) -> bool:
        """Whether the gang can start as soon as those have made room that fill its slots.

        Filling changes nothing of it: a slot is free before, and held by a filler afterwards.
        """
        return len(self.free) + num_slots(self.fillers(gang)) >= gang.fewest_devices

    def slots_around(self, slot: int, count: int) -> list[int]:
        """So many free slots, this one among them."""
        others = [one for one in self.free if one != slot]
        return sorted([slot, *others[: count - 1]])


def num_slots(attempts: Iterable[Attempt]) -> int:
    return sum(attempt.ranks for attempt in attempts)


def is_making_room(attempt: Attempt) -> bool:
    """Whether it stops at its next step, whoever asked for it."""
    return attempt.job.stop in (Stop.PREEMPT, Stop.CANCEL)


def open_attempts() -> list[Attempt]:
    """Every attempt that holds a slot, with what the order of the queue needs of its job."""
    of_jobs = ("priority", "queued_at", "stop", "status", "recipe", "program", "started_at")
    rows = Attempt.objects.filter(ended_at=None, node__isnull=False).select_related("job")
    return list(rows.only("node", "slot", "ranks", "fills", "number", *(f"job__{name}" for name in of_jobs)))


def one_free_slot_of_each_kind(node: Node) -> list[int]:
    found = (room.free for room in rooms(node, busy_slots(), ()))
    return [free[0] for free in found if free]


def room_around(node: Node, slot: int) -> Room:
    """The group of slots that this one belongs to, which is free: who asks holds it."""
    found = rooms(node, busy_slots(), open_attempts(), own=[slot])
    return next(room for room in found if slot in room.group)


def rooms(
    node: Node, busy: BusySlots, attempts: Iterable[Attempt], *, own: Collection[int] = ()
) -> list[Room]:
    """The node's groups of slots as they are. own: slots that are free, whatever a lost attempt seems to hold."""
    here = [attempt for attempt in attempts if attempt.node_id == node.pk]
    return [
        Room(
            node,
            group,
            [slot for slot in group if slot in own or slot not in busy[node.pk]],
            [attempt for attempt in here if attempt.slot in group],
        )
        for group in slot_groups(node)
    ]


def hosts_within_reach(gang: TrainingJob | Any, rooms_: Iterable[Room]) -> int:
    """How many of the hosts could take part as soon as those have made room that fill its slots."""
    fitting = (room for room in rooms_ if room.group in groups_for(gang, room.node))
    return len({room.node.pk for room in fitting if room.is_within_reach(gang)})


def startable(rooms_: list[Room]) -> set[int]:
    """The queue's first jobs that free slots would take one after the other, as claims do."""
    found, blocked = (
        set[int](),
        dict[int, bool](),
    )  # for whom nothing is kept; whether the gang there is within reach
    free = [list(room.free) for room in rooms_]
    for job in claimable_jobs().order_by(*IN_ORDER)[:MOST_STARTABLE]:
        fitting = [number for number, room in enumerate(rooms_) if room.group in groups_for(job, room.node)]
        able: dict[int, int] = {}  # of each host the first group of slots that would do
        for number in fitting:
            is_kept = number in blocked and (blocked[number] or not gives_way(job))
            if not is_kept and num_ranks(job, len(free[number])):
                able.setdefault(rooms_[number].node.pk, number)
        chosen = list(able.values())[: job.num_hosts]
        if len(chosen) == job.num_hosts:
            found.add(job.pk)
            for number in chosen:
                del free[number][: num_ranks(job, len(free[number]))]
        elif len({rooms_[number].node.pk for number in fitting}) >= job.num_hosts:
            within = hosts_within_reach(job, rooms_) >= job.num_hosts
            for number in fitting:
                blocked.setdefault(number, within and rooms_[number].is_within_reach(job))
    return found
