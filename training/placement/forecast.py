"""Where a job would run, and about when: as far as the jobs that run now tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.models import Attempt, Node, TrainingJob
from training.placement.reasons import Reason
from training.placement.slots import BusySlots, busy_slots, free_slots, live_nodes, slots_for, takes_jobs


@dataclass(frozen=True)
class Forecast:
    free_slots: dict[str, int]
    """Of each node that may take the job, by name: how many of the slots that it could have are free."""
    starts_in_seconds: float | None
    """None where it is not known: nothing tells when so many of the slots will be free."""


def forecast(job: TrainingJob | Any, reason: Reason | None) -> Forecast:
    """For a queued job and the reason why it waits."""
    busy = busy_slots()
    nodes = [node for node in live_nodes().order_by("name") if takes_jobs(node) and slots_for(job, node)]
    free = {node.name: len(free_slots(node, busy, job)) for node in nodes}
    return Forecast(free, _starts(job, reason, nodes, busy))


def _starts(
    job: TrainingJob | Any, reason: Reason | None, nodes: Sequence[Node], busy: BusySlots
) -> float | None:
    """When as many slots are free as jobs go first, and one more; what goes first is taken to last longer."""
    if reason is None or reason.code not in {"next", "turn", "no_slot"} or reason.ahead is None:
        return None
    if job.fewest_devices > 1:  # slots that come free one by one are not yet the ones that it needs
        return 0.0 if reason.code == "next" else None
    num_free = sum(len(free_slots(node, busy, job)) for node in nodes)
    still_needed = reason.ahead + 1 - num_free
    if still_needed <= 0:
        return 0.0
    ends = sorted(_seconds_left(job, nodes))
    return ends[still_needed - 1] if still_needed <= len(ends) else None


def _seconds_left(job: TrainingJob | Any, nodes: Sequence[Node]) -> list[float]:
    """Of each job that holds a slot which this one could have, where its pace tells."""
    wanted = {(node.pk, slot) for node in nodes for slot in slots_for(job, node)}
    running = Attempt.objects.filter(ended_at=None, node__in=[node.pk for node in nodes]).select_related(
        "job"
    )
    return [
        (one.job.total_steps - one.job.current_step) * one.job.step_seconds
        for one in running
        if (one.node_id, one.slot) in wanted and one.job.total_steps and one.job.step_seconds
    ]
