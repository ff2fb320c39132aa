"""Who is woken for the jobs that wait: this node, or another one that may take them."""

from __future__ import annotations

from django.db.models import QuerySet

from training import placement, queue
from training.models import Node, TrainingJob


def waiting_jobs() -> QuerySet[TrainingJob]:
    """Jobs that a supervisor could claim now, the best first."""
    return placement.claimable_jobs().order_by(*placement.IN_ORDER)


def jobs_for(node: Node) -> QuerySet[TrainingJob]:
    """Jobs that this node could claim now, the best first; none where it is drained or stopping."""
    node.refresh_from_db(fields=["pools", "environments", "draining", "drained_at"])
    return (
        waiting_jobs().filter(placement.fits(node))
        if placement.takes_jobs(node)
        else TrainingJob.objects.none()
    )


def wake(node: Node, num_slots: int) -> int:
    """Wake this node for waiting jobs that so many of its slots could take. Returns how many messages were sent.

    They go to the node alone: one in the common queue could be taken, again and again, by a node of another pool.
    """
    missing = len(jobs_for(node).values_list("pk")[:num_slots]) - queue.num_waiting()
    for _ in range(missing):
        queue.wake_host(node.name)
    return max(missing, 0)


def pass_on(node: Node) -> list[Node]:
    """Wake the other nodes that have a free slot and a job for it, for `node` was woken and could claim none.

    Returns them. The first of all hosts to take a message may serve other pools, have no GPU, or be drained.
    """
    busy, others = placement.busy_slots(), placement.live_nodes().exclude(pk=node.pk)
    woken = [other for other in others if placement.free_slots(other, busy) and jobs_for(other).exists()]
    for other in woken:
        queue.wake_host(other.name)
    return woken
