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
from training.models import Attempt, HeldSlot, Node, TrainingJob
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
    of_groups = Q(pk__in=[])
    for group in slot_groups(node):
        if slot is None or slot in group:
            enough = Q(fewest_devices__lte=len(group))
            of_groups |= enough if has_gpu(node, group[0]) else enough & NEEDS_NO_GPU
    return in_pools & of_groups


def groups_for(job: TrainingJob | Any, node: Node) -> list[list[int]]:
    """What `fits` says of one job: the groups of slots of the node that may run it."""
    if (job.pool and job.pool not in node.pools) or not may_run(job) or not has_environment(node, job):
        return []
    return [group for group in _groups_of_its_kind(job, node) if job.fewest_devices <= len(group)]


def has_kind_for(job: TrainingJob | Any, node: Node) -> bool:
    """Whether the node has a slot with what the job computes on."""
    return bool(_groups_of_its_kind(job, node))


def most_slots(job: TrainingJob | Any, node: Node) -> int:
    """How many slots the node has that the ranks of the job could share."""
    return max(map(len, _groups_of_its_kind(job, node)), default=0)


def _groups_of_its_kind(job: TrainingJob | Any, node: Node) -> list[list[int]]:
    return [group for group in slot_groups(node) if not needs_gpu(job) or has_gpu(node, group[0])]


def slots_for(job: TrainingJob | Any, node: Node) -> list[int]:
    """The slots of the node that may run the job."""
    return sorted(slot for group in groups_for(job, node) for slot in group)


def slot_groups(node: Node) -> list[list[int]]:
    """The slots with a GPU and those without: the ranks of a job compute on devices of one kind."""
    slots = range(node.slots)
    with_gpu = [slot for slot in slots if has_gpu(node, slot)]
    return [group for group in (with_gpu, [slot for slot in slots if slot not in with_gpu]) if group]


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


def has_gpu(node: Node, slot: int) -> bool:
    """Where a node has not said what it computes on, it is tried."""
    return not node.devices or (slot < len(node.devices) and node.devices[slot]["device"] != "cpu")


_slots_held = made_once(
    lambda: (
        Attempt.objects.filter(ended_at=None, node__isnull=False)
        .order_by()
        .values_list("node_id", "slot")
        .union(HeldSlot.objects.order_by().values_list("node_id", "slot"))
    )
)
