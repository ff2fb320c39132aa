"""Why a queued job still waits: one reason a job, from what the claim itself looks at."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connection
from django.db.models import BooleanField, Case, Min, Subquery, Value, When

from training.lifecycle import JobType, Status
from training.models import Node, TrainingJob
from training.placement.order import BACKS_OFF, IN_ORDER, IN_QUEUE, dataset_makers
from training.placement.slots import (
    BusySlots,
    busy_slots,
    environment_of,
    free_slots,
    has_environment,
    live_nodes,
    may_run,
    needs_gpu,
    silent_after,
    slots_for,
    takes_jobs,
)
from training.statements import made_once

FARTHEST_AHEAD = 1_000  # positions beyond are not counted
REASON_CODES = (
    "not_before",
    "dataset",
    "no_node",
    "no_pool",
    "no_environment",
    "no_gpu",
    "no_programs",
    "drained",
    "no_slot",
    "turn",
    "next",
)


@dataclass(frozen=True)
class Reason:
    """Why a queued job waits: a code for programs, a sentence for people, and how many jobs go first."""

    code: str
    message: str
    ahead: int | None  # None: more than FARTHEST_AHEAD

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "ahead": self.ahead}


def waiting_reasons(jobs: Iterable[TrainingJob | Any]) -> dict[int, Reason]:
    """Why each queued job among these waits. Four queries, however many they are; none where none is queued."""
    queued = [job for job in jobs if job.status == Status.QUEUED]
    if not queued:
        return {}
    state = _QueueState.of(queued)
    return {job.pk: state.reason(job) for job in queued if job.pk in state.holds}


@dataclass(frozen=True)
class _Hold:
    backs_off: bool
    not_before: datetime | None
    maker: int | None


@dataclass(frozen=True)
class _QueueState:
    """What the reasons are made from, as it was read at one time."""

    holds: dict[int, _Hold]
    head: dict[int, str]
    nodes: list[Node]
    busy: BusySlots

    @classmethod
    def of(cls, jobs: list[TrainingJob]) -> _QueueState:
        numbers = [job.pk for job in jobs]
        sql, values = _holds_statement(connection.vendor, len(numbers))
        holds = {
            row.pk: _Hold(
                row.backs_off, row.not_before, row.maker if row.job_type == JobType.TRAINING else None
            )
            for row in TrainingJob.objects.raw(sql, [*values, *numbers])
        }
        nodes = list(Node.objects.raw(*_live_statement(connection.vendor, silent_after())))
        return cls(holds, _read_head(holds.keys()), nodes, busy_slots())

    def reason(self, job: TrainingJob) -> Reason:
        ahead = self._ahead(job)
        hold = self.holds[job.pk]
        if hold.backs_off and hold.not_before:
            return Reason("not_before", f"It is tried again at {hold.not_before:%H:%M:%S} UTC.", ahead)
        if hold.maker:
            return Reason("dataset", f"Waits for its dataset, which job {hold.maker} is making.", ahead)
        return Reason(*self._of_the_nodes(job, ahead), ahead)

    def _of_the_nodes(self, job: TrainingJob, ahead: int | None) -> tuple[str, str]:
        if not may_run(job):
            return "no_programs", "Programs are turned off (HEIMDALL_PROGRAMS=0)."
        if not self.nodes:
            return "no_node", "No worker is running."
        fitting = [node for node in self.nodes if not job.pool or job.pool in node.pools]
        if not fitting:
            return "no_pool", f"No live node is in the pool {job.pool}."
        which = f" of the pool {job.pool}" if job.pool else ""
        fitting = [node for node in fitting if has_environment(node, job)]
        if not fitting:
            name = environment_of(job)
            return (
                "no_environment",
                f"No connected host{which} has the environment {name} (HEIMDALL_ENVIRONMENTS).",
            )
        fitting = [node for node in fitting if slots_for(job, node)]
        if not fitting:
            return "no_gpu", f"It asks for a GPU, and no live node{which} has one."
        which += " with a GPU" if needs_gpu(job) else ""
        open_ = [node for node in fitting if takes_jobs(node)]
        if not open_:
            return "drained", f"Every node{which} is drained or stopping."
        slots = sum(len(slots_for(job, node)) for node in open_)
        free = sum(len(free_slots(node, self.busy, job)) for node in open_)
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


@lru_cache(maxsize=64)
def _holds_statement(_vendor: str, count: int) -> tuple[str, tuple[Any, ...]]:
    """What holds so many queued jobs, with the values that stand before their numbers. Making it costs Django many
    times what its answer costs."""
    # The least number, and not the first in order: SQLite would walk along all jobs for each.
    makers = dataset_makers().order_by().values("dataset").annotate(first=Min("pk")).values("first")
    rows = (
        TrainingJob.objects.only("job_type", "not_before")
        .order_by()
        .annotate(
            backs_off=Case(
                When(BACKS_OFF, then=Value(True)), default=Value(False), output_field=BooleanField()
            ),
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


@lru_cache(maxsize=8)
def _live_statement(_vendor: str, _silent_after: float) -> tuple[str, tuple[Any, ...]]:
    return live_nodes().query.sql_with_params()


def _taken(count: int, which: str) -> str:
    return f"The only slot{which} is taken." if count == 1 else f"All {count} slots{which} are taken."


def _goes_first(ahead: int | None) -> str:
    if ahead is None:
        return f" More than {FARTHEST_AHEAD} jobs go first."
    if not ahead:
        return " It is next."
    return f" {ahead} job{'s go' if ahead > 1 else ' goes'} first."
