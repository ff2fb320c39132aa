"""Which slot of which node may run what, which are free, and which nodes live.

A job is compared with a slot twice: in SQL for all jobs at once, which is what a claim asks (`fits`), and in Python
for one job, which is what a reason is made from (`slots_for`). The two stand side by side, and a test compares them.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from heimdall.attached.program import UV
from training.models import Attempt, Node, TrainingJob
from training.statements import made_once, rows_of

BusySlots = defaultdict[int, set[int]]
# As needs_gpu says it of one job. What has no such field compares as unknown in SQL.
IS_RECIPE = ~Q(recipe="")
NEEDS_NO_GPU = ~Q(config__device="cuda") | Q(config__device__isnull=True)


def takes_jobs(node: Node) -> bool:
    """Whether the node, as it was read, may claim at all."""
    return not node.draining and node.drained_at is None


def fits(node: Node, slot: int | None = None) -> Q:
    """The jobs that this slot of the node may run, or, without one, that any of its slots may."""
    in_pools = Q(pool__in=["", *node.pools])
    if not settings.PROGRAMS:
        in_pools &= IS_RECIPE
    in_pools &= IS_RECIPE | Q(program__environment__in=_environments_of(node))
    slots = range(node.slots) if slot is None else [slot]
    return in_pools if any(_has_gpu(node, one) for one in slots) else in_pools & NEEDS_NO_GPU


def slots_for(job: TrainingJob | Any, node: Node) -> list[int]:
    """What `fits` says of one job: the slots of the node that may run it."""
    if (job.pool and job.pool not in node.pools) or not may_run(job) or not has_environment(node, job):
        return []
    return [slot for slot in range(node.slots) if not needs_gpu(job) or _has_gpu(node, slot)]


def may_run(job: TrainingJob | Any) -> bool:
    """Whether such jobs are run at all."""
    return bool(settings.PROGRAMS or job.recipe)


def environment_of(job: TrainingJob | Any) -> str:
    """What the job's program runs in; empty for a recipe, too."""
    return job.program["environment"] if job.program else ""


def has_environment(node: Node, job: TrainingJob | Any) -> bool:
    return environment_of(job) in _environments_of(node)


def environments_known() -> list[str]:
    """The names of those that some node has, be it silent now, and of this process's own."""
    of_nodes = (name for names in Node.objects.values_list("environments", flat=True) for name in names)
    return sorted({*settings.ENVIRONMENTS, *of_nodes})


def needs_gpu(job: TrainingJob | Any) -> bool:
    return job.config.get("device") == "cuda"


def live_nodes() -> QuerySet[Node]:
    """Nodes whose worker was heard lately, in the database's clock."""
    return Node.objects.filter(last_seen_at__gt=Now() - timedelta(seconds=silent_after()))


def silent_after() -> float:
    """Seconds without a word after which a node counts as gone."""
    return max(settings.LEASE_SECONDS, 3 * settings.SWEEP_SECONDS)


def busy_slots() -> BusySlots:
    """The numbers of the slots that hold a job, by node."""
    busy: BusySlots = defaultdict(set)
    for node, slot in rows_of(_slots_held()):
        busy[node].add(slot)
    return busy


def free_slots(node: Node, busy: BusySlots, job: TrainingJob | Any | None = None) -> list[int]:
    """The slots of the node that hold no job; of those only the ones that may run this job, where one is given."""
    slots = range(node.slots) if job is None else slots_for(job, node)
    return [slot for slot in slots if slot not in busy[node.pk]]


def _environments_of(node: Node) -> list[str]:
    """The worker's own Python and uv are on every node."""
    return ["", UV, *node.environments]


def _has_gpu(node: Node, slot: int) -> bool:
    """Where a node has not said what it computes on, it is tried."""
    return not node.devices or (slot < len(node.devices) and node.devices[slot]["device"] != "cpu")


_slots_held = made_once(
    lambda: (
        Attempt.objects.filter(ended_at=None, node__isnull=False).order_by().values_list("node_id", "slot")
    )
)
