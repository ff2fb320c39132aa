"""Preemption: a running job stops and goes back to the queue where a more urgent one has no slot to run in."""

from __future__ import annotations

from functools import reduce
from operator import or_

from django.db.models import Q

from training import placement, services
from training.lifecycle import Status, Stop
from training.models import TrainingJob


def make_room() -> TrainingJob | None:
    """Ask the least urgent running job to stop where a more urgent one waits and no node for it has a free slot.

    Each pool is looked at by itself, with and without those that ask for a GPU: a job that waits for nodes that are
    not there holds up nobody.
    """
    for pool in services.waiting_jobs().order_by().values_list("pool", flat=True).distinct():
        in_pool = services.waiting_jobs().filter(pool=pool)
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
