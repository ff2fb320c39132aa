"""Preemption: a running job stops and goes back to the queue where one that goes first has no slot to run in.

For one slot the least urgent job makes room. For a gang as many as it takes do, all on one host and at once: those
that fill a gap until it can start, and those that are less urgent.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from django.db.models import Q

from training import placement, services
from training.lifecycle import Status, Stop
from training.models import Attempt, TrainingJob

MOST_GANGS = 20  # that are looked at in one round


def make_room() -> TrainingJob | None:
    """Ask the least urgent running job to stop where a more urgent one waits and no node for it has a free slot.

    Each pool is looked at by itself, with and without those that ask for a GPU: a job that waits for nodes that are
    not there holds up nobody.
    """
    for pool in services.waiting_jobs().order_by().values_list("pool", flat=True).distinct():
        in_pool = services.waiting_jobs().filter(pool=pool, is_gang=False)
        for urgent in (in_pool.first(), in_pool.filter(placement.NEEDS_NO_GPU).first()):
            running = _least_urgent_in_the_way_of(urgent) if urgent else None
            if urgent and running and services.preempt(running, for_job=urgent):
                return running
    return None


def _least_urgent_in_the_way_of(urgent: TrainingJob) -> TrainingJob | None:
    """The job to preempt; None where a slot is free already, or becomes so, or nothing less urgent runs there."""
    nodes = [node for node in placement.live_nodes() if placement.takes_jobs(node)]
    busy = placement.busy_slots()
    if any(placement.free_slots(node, busy, urgent) for node in nodes):
        return None
    slots = (Q(attempts__node=node, attempts__slot__in=placement.slots_for(urgent, node)) for node in nodes)
    there = reduce(or_, slots, Q(pk__in=[]))
    running = TrainingJob.objects.filter(there, status=Status.RUNNING, attempts__ended_at=None)
    if running.filter(stop=Stop.PREEMPT).exists():
        return None
    less_urgent = running.filter(stop=Stop.NONE, priority__lt=urgent.priority)
    return less_urgent.order_by("priority", "-started_at").first()


def make_room_for_gangs() -> list[TrainingJob]:
    """Ask jobs to stop where that makes enough slots of one host, or of each of several, free; who was asked.

    Each gang is started at once or not at all: nobody stops for one that could not start then.
    """
    gangs = list(placement.waiting_gangs()[:MOST_GANGS])
    if not gangs:
        return []
    busy, attempts = placement.busy_slots(), placement.open_attempts()
    nodes = [node for node in placement.live_nodes() if placement.takes_jobs(node)]
    rooms = [room for node in nodes for room in placement.rooms(node, busy, attempts)]
    asked: list[TrainingJob] = []
    for gang in gangs:
        asked += _make_room_for(
            gang, [room for room in rooms if room.group in placement.groups_for(gang, room.node)]
        )
    return asked


def _make_room_for(gang: TrainingJob, rooms: list[placement.Room]) -> list[TrainingJob]:
    ways: dict[int, list[Attempt]] = {}  # the best one of each host where there is one
    for room in rooms:
        way = _who_makes_room(gang, room)
        known = ways.get(room.node.pk)
        if way is not None and (known is None or placement.num_slots(way) < placement.num_slots(known)):
            ways[room.node.pk] = way
    if len(ways) < gang.num_hosts:
        return []
    hosts = sorted(ways.values(), key=placement.num_slots)[: gang.num_hosts]
    stop = [one for way in hosts for one in way]
    running = (TrainingJob.objects.filter(pk=one.job_id, attempt=one.number).first() for one in stop)
    return [job for job in running if job is not None and services.preempt(job, for_job=gang)]


def _who_makes_room(gang: TrainingJob, room: placement.Room) -> list[Attempt] | None:
    """Who is to stop there: nobody where enough slots are free or become so; None where they never do."""
    stopping = [one for one in room.attempts if placement.is_making_room(one)]
    missing = gang.fewest_devices - len(room.free) - placement.num_slots(stopping)
    fillers = room.fillers(gang)
    may_stop = [
        one
        for one in room.attempts
        if one.job.stop == Stop.NONE and (one in fillers or one.job.priority < gang.priority)
    ]
    may_stop.sort(key=lambda one: (one.job.priority, -one.pk))
    for count in range(len(may_stop) + 1):
        if placement.num_slots(may_stop[:count]) >= missing:
            return may_stop[:count]
    return None
