"""Who may run what: the conditions of a claim, and why a queued job still waits. Both read the same expressions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import BooleanField, Case, Exists, Min, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from training.lifecycle import JobType, Status
from training.models import Attempt, Node, TrainingJob
from training.statements import made_once, rows_of

# Written out: SQLite takes the queue's index only for a condition that it can read, which no parameter is.
IN_QUEUE = Q(status=RawSQL(f"'{Status.QUEUED}'", ()))
IN_ORDER = ("-priority", "queued_at", "id")
FARTHEST_AHEAD = 1_000  # positions beyond are not counted
# As needs_gpu says it of one job. What has no such field compares as unknown in SQL.
NEEDS_NO_GPU = ~Q(config__device="cuda") | Q(config__device__isnull=True)
CODES = ("not_before", "dataset", "no_node", "no_pool", "no_gpu", "drained", "no_slot", "turn", "next")


def claimable_jobs() -> QuerySet[TrainingJob]:
    """Queued jobs whose time has come. A training waits for the dataset that another job still makes."""
    return TrainingJob.objects.filter(IN_QUEUE, ~_IS_HELD, ~_waits_for_dataset())


def takes_jobs(node: Node) -> bool:
    """Whether the node, as it was read, may claim at all."""
    return not node.draining and node.drained_at is None


def fits(node: Node, slot: int | None = None) -> Q:
    """The jobs that this slot of the node may run, or, without one, that any of its slots may."""
    in_pools = Q(pool__in=["", *node.pools])
    slots = range(node.slots) if slot is None else [slot]
    return in_pools if any(_has_gpu(node, one) for one in slots) else in_pools & NEEDS_NO_GPU


def slots_for(job: TrainingJob | Any, node: Node) -> list[int]:
    """What `fits` says of one job: the slots of the node that may run it."""
    if job.pool and job.pool not in node.pools:
        return []
    return [slot for slot in range(node.slots) if not needs_gpu(job) or _has_gpu(node, slot)]


def needs_gpu(job: TrainingJob | Any) -> bool:
    return job.config.get("device") == "cuda"


def live_nodes() -> QuerySet[Node]:
    """Nodes whose worker was heard lately, in the database's clock."""
    return Node.objects.filter(last_seen_at__gt=Now() - timedelta(seconds=silent_after()))


def silent_after() -> float:
    """Seconds without a word after which a node counts as gone."""
    return max(settings.LEASE_SECONDS, 3 * settings.SWEEP_SECONDS)


def busy_slots() -> Counter[int]:
    """Slots that hold a job, by node."""
    return Counter(node for (node,) in rows_of(_slots_held()))


def free_slots(job: TrainingJob | Any, node: Node, busy: Counter[int]) -> int:
    """How many slots the job could have there, at most."""
    return min(len(slots_for(job, node)), max(node.slots - busy[node.pk], 0))


@dataclass(frozen=True)
class Reason:
    """Why a queued job waits: a code for programs, a sentence for people, and how many jobs go first."""

    code: str
    message: str
    ahead: int | None  # None: more than FARTHEST_AHEAD

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "ahead": self.ahead}


def reasons(jobs: Iterable[TrainingJob | Any]) -> dict[int, Reason]:
    """Why each queued job among these waits. Four queries, however many they are; none where none is queued."""
    queued = [job for job in jobs if job.status == Status.QUEUED]
    if not queued:
        return {}
    hall = _Hall.of(queued)
    return {job.pk: hall.reason(job) for job in queued if job.pk in hall.held}


@dataclass(frozen=True)
class _Held:
    is_held: bool
    not_before: datetime | None
    maker: int | None


@dataclass(frozen=True)
class _Hall:
    """What the reasons are made from, as it was read at one time."""

    held: dict[int, _Held]
    head: dict[int, str]
    nodes: list[Node]
    busy: Counter[int]

    @classmethod
    def of(cls, jobs: list[TrainingJob]) -> _Hall:
        numbers = [job.pk for job in jobs]
        sql, values = _held_statement(connection.vendor, len(numbers))
        held = {
            row.pk: _Held(
                row.is_held, row.not_before, row.maker if row.job_type == JobType.TRAINING else None
            )
            for row in TrainingJob.objects.raw(sql, [*values, *numbers])
        }
        nodes = list(Node.objects.raw(*_live_statement(connection.vendor, silent_after())))
        return cls(held, _read_head(held.keys()), nodes, busy_slots())

    def reason(self, job: TrainingJob) -> Reason:
        ahead = self._ahead(job)
        facts = self.held[job.pk]
        if facts.is_held and facts.not_before:
            return Reason("not_before", f"It is tried again at {facts.not_before:%H:%M:%S} UTC.", ahead)
        if facts.maker:
            return Reason("dataset", f"Waits for its dataset, which job {facts.maker} is making.", ahead)
        return Reason(*self._for_a_node(job, ahead), ahead)

    def _for_a_node(self, job: TrainingJob, ahead: int | None) -> tuple[str, str]:
        if not self.nodes:
            return "no_node", "No worker is running."
        fitting = [node for node in self.nodes if not job.pool or job.pool in node.pools]
        if not fitting:
            return "no_pool", f"No live node is in the pool {job.pool}."
        which = f" of the pool {job.pool}" if job.pool else ""
        fitting = [node for node in fitting if slots_for(job, node)]
        if not fitting:
            return "no_gpu", f"It asks for a GPU, and no live node{which} has one."
        which += " with a GPU" if needs_gpu(job) else ""
        open_ = [node for node in fitting if takes_jobs(node)]
        if not open_:
            return "drained", f"Every node{which} is drained or stopping."
        slots = sum(len(slots_for(job, node)) for node in open_)
        free = sum(free_slots(job, node, self.busy) for node in open_)
        first = _goes_first(ahead)
        if free <= 0:
            return "no_slot", f"{_taken(slots, which)}{first}"
        if ahead is None or ahead >= free:
            return "turn", f"Waits for its turn.{first}"
        return "next", "A worker takes it at any moment."

    def _ahead(self, job: TrainingJob) -> int | None:
        """How many jobs that compete for the same nodes go first."""
        before = 0
        for pk, pool in self.head.items():
            if pk == job.pk:
                return before
            before += not job.pool or pool in ("", job.pool)
        return None


_IS_HELD = Q(not_before__isnull=False, not_before__gt=Now())


def _makers() -> QuerySet[TrainingJob]:
    """The jobs that still make the dataset of the outer query's job."""
    return TrainingJob.objects.filter(
        dataset=OuterRef("dataset"),
        job_type=JobType.SYNTHETIC_DATA,
        status__in=[Status.QUEUED, Status.RUNNING],
    )


@lru_cache(maxsize=64)
def _held_statement(_vendor: str, count: int) -> tuple[str, tuple[Any, ...]]:
    """What holds so many queued jobs, with the values that stand before their numbers. Making it costs Django many
    times what its answer costs."""
    # The least number, and not the first in order: SQLite would walk along all jobs for each.
    makers = _makers().order_by().values("dataset").annotate(first=Min("pk")).values("first")
    rows = (
        TrainingJob.objects.only("job_type", "not_before")
        .order_by()
        .annotate(
            is_held=Case(When(_IS_HELD, then=Value(True)), default=Value(False), output_field=BooleanField()),
            maker=Subquery(makers),
        )
    )
    sql, values = rows.filter(IN_QUEUE, pk__in=range(count)).query.sql_with_params()
    return sql, values[:-count]


def _read_head(wanted: Set[int]) -> dict[int, str]:
    """Those who go first, in order, about as far as the last that is wanted: the cost is in handing out rows."""
    head: dict[int, str] = {}
    with connection.cursor() as cursor:
        cursor.execute(*_head())
        while not wanted <= head.keys() and (rows := cursor.fetchmany(100)):
            head.update(rows)
    return head


# The numbers and pools of those who go first.
_head = made_once(
    lambda: (
        TrainingJob.objects.filter(IN_QUEUE)
        .order_by(*IN_ORDER)
        .values_list("pk", "pool")[: FARTHEST_AHEAD + 1]
    )
)
_slots_held = made_once(
    lambda: Attempt.objects.filter(ended_at=None, node__isnull=False).order_by().values_list("node_id")
)


@lru_cache(maxsize=8)
def _live_statement(_vendor: str, _silent_after: float) -> tuple[str, tuple[Any, ...]]:
    return live_nodes().query.sql_with_params()


def _waits_for_dataset() -> Q:
    return Q(job_type=JobType.TRAINING) & Exists(_makers())


def _has_gpu(node: Node, slot: int) -> bool:
    """Where a node has not said what it computes on, it is tried."""
    return not node.devices or (slot < len(node.devices) and node.devices[slot]["device"] != "cpu")


def _taken(count: int, which: str) -> str:
    return f"The only slot{which} is taken." if count == 1 else f"All {count} slots{which} are taken."


def _goes_first(ahead: int | None) -> str:
    if ahead is None:
        return f" More than {FARTHEST_AHEAD} jobs go first."
    if not ahead:
        return " It is next."
    return f" {ahead} job{'s go' if ahead > 1 else ' goes'} first."
