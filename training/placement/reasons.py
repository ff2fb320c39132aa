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
from training.models import Attempt, Node, TrainingJob
from training.placement.gangs import Room, gives_way, hosts_within_reach, open_attempts, rooms, startable
from training.placement.order import (
    BACKS_OFF,
    IN_ORDER,
    IN_QUEUE,
    dataset_makers,
    goes_before,
    waiting_gangs,
)
from training.placement.slots import (
    BusySlots,
    busy_slots,
    environment_of,
    groups_for,
    has_environment,
    has_kind_for,
    live_nodes,
    may_run,
    most_slots,
    needs_gpu,
    silent_after,
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
    "too_few_slots",
    "no_programs",
    "drained",
    "no_slot",
    "needs_slots",
    "kept",
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
    """Why each queued job among these waits. Four queries, however many they are, and three more where jobs of
    several devices are among those that go first; none where none is queued."""
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
    head: dict[int, tuple[str, bool]]
    nodes: list[Node]
    busy: BusySlots
    gangs: list[TrainingJob]
    attempts: list[Attempt]
    startable: set[int]

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
        head = _read_head(holds.keys())
        has_gangs = any(is_gang for _, is_gang in head.values())
        busy = busy_slots()
        if not has_gangs:
            return cls(holds, head, nodes, busy, [], [], set())
        attempts = open_attempts()
        rooms_ = [room for node in nodes if takes_jobs(node) for room in rooms(node, busy, attempts)]
        gangs = list(waiting_gangs()[:FARTHEST_AHEAD])
        return cls(holds, head, nodes, busy, gangs, attempts, startable(rooms_))

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
        fitting = [node for node in fitting if has_kind_for(job, node)]
        if not fitting:
            return "no_gpu", f"It asks for a GPU, and no live node{which} has one."
        which += " with a GPU" if needs_gpu(job) else ""
        large = [node for node in fitting if groups_for(job, node)]
        if len(large) < job.num_hosts:
            return "too_few_slots", _too_few(job, fitting, which)
        open_ = [node for node in large if takes_jobs(node)]
        if not open_:
            return "drained", f"Every node{which} is drained or stopping."
        return self._of_the_slots(job, open_, ahead, which)

    def _of_the_slots(
        self, job: TrainingJob | Any, nodes: list[Node], ahead: int | None, which: str
    ) -> tuple[str, str]:
        of_nodes = (rooms(node, self.busy, self.attempts) for node in nodes)
        fitting = [room for found in of_nodes for room in found if room.group in groups_for(job, room.node)]
        first, free = _goes_first(ahead), [len(room.free) for room in fitting]
        if not job.is_gang and not any(free):
            return "no_slot", f"{_taken(sum(len(room.group) for room in fitting), which)}{first}"
        if (have := _num_hosts_with(job, fitting)) < job.num_hosts:
            said = _are_free(max(free)) if job.num_hosts == 1 else f"{have or 'none'} of them {_has(have)}"
            return "needs_slots", f"{_needs(job, which)}; {said}.{first}"
        kept = {id(room): self._kept_for(job, room) for room in fitting}
        usable = [len(room.free) for room in fitting if room.free and kept[id(room)] is None]
        if not usable:
            gang = next(filter(None, kept.values()))
            sentence = (
                f"Free slots are kept for job {gang.pk}, which needs {gang.fewest_devices} of one host."
            )
            return "kept", f"{sentence}{first}"
        is_soon = job.pk in self.startable if self.gangs else ahead is not None and ahead < sum(usable)
        if not is_soon:
            return "turn", f"Waits for its turn.{first}"
        return "next", "A worker takes it at any moment."

    def _kept_for(self, job: TrainingJob | Any, room: Room) -> TrainingJob | None:
        """The job of several devices for which the slots are kept from this one; None where they are not."""
        for gang in self.gangs:
            if gang.pk == job.pk or goes_before(job, gang):
                return None
            if room.group in groups_for(gang, room.node) and self._could_ever_start(gang):
                may_fill = gives_way(job) and not (room.is_within_reach(gang) and self._is_within_reach(gang))
                return None if may_fill else gang
        return None

    def _could_ever_start(self, gang: TrainingJob) -> bool:
        hosts = (node for node in self.nodes if takes_jobs(node) and groups_for(gang, node))
        return len(list(hosts)) >= gang.num_hosts

    def _is_within_reach(self, gang: TrainingJob) -> bool:
        nodes = (node for node in self.nodes if takes_jobs(node))
        found = [room for node in nodes for room in rooms(node, self.busy, self.attempts)]
        return hosts_within_reach(gang, found) >= gang.num_hosts

    def _ahead(self, job: TrainingJob) -> int | None:
        """How many jobs that compete for the same nodes go first."""
        before = 0
        for pk, (pool, _) in self.head.items():
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


def _read_head(wanted: Set[int]) -> dict[int, tuple[str, bool]]:
    """Those who go first, in order, about as far as the last that is wanted: the cost is in handing out rows."""
    head: dict[int, tuple[str, bool]] = {}
    with connection.cursor() as cursor:
        cursor.execute(*_head())
        while not wanted <= head.keys() and (rows := cursor.fetchmany(100)):
            head.update((pk, (pool, bool(is_gang))) for pk, pool, is_gang in rows)
    return head


# The numbers and pools of those who go first, and whether they need several slots.
_head = made_once(
    lambda: (
        TrainingJob.objects.filter(IN_QUEUE)
        .order_by(*IN_ORDER)
        .values_list("pk", "pool", "is_gang")[: FARTHEST_AHEAD + 1]
    )
)


@lru_cache(maxsize=8)
def _live_statement(_vendor: str, _silent_after: float) -> tuple[str, tuple[Any, ...]]:
    return live_nodes().query.sql_with_params()


def _taken(count: int, which: str) -> str:
    return f"The only slot{which} is taken." if count == 1 else f"All {count} slots{which} are taken."


def _num_hosts_with(job: TrainingJob | Any, fitting: list[Room]) -> int:
    """Hosts with as many free slots as it needs."""
    return len({room.node.pk for room in fitting if len(room.free) >= job.fewest_devices})


def _needs(job: TrainingJob | Any, which: str) -> str:
    hosts = "one host" if job.num_hosts == 1 else f"each of {job.num_hosts} hosts"
    return f"It needs {_slots(job.fewest_devices, 'free ')} of {hosts}{which}"


def _slots(count: int, what: str = "") -> str:
    return f"{count} {what}slot{'s' if count > 1 else ''}"


def _has(count: int) -> str:
    return "has them" if count < 2 else "have them"


def _are_free(count: int) -> str:
    return f"{count or 'none'} {'is' if count < 2 else 'are'} free"


def _too_few(job: TrainingJob | Any, nodes: list[Node], which: str) -> str:
    if job.num_hosts > 1:
        large = sum(bool(groups_for(job, node)) for node in nodes)
        return (
            f"It needs {_slots(job.fewest_devices)} of each of {job.num_hosts} hosts, and {large or 'none'} of the "
            f"live nodes{which} {_has(large)}."
        )
    most = max(most_slots(job, node) for node in nodes)
    return f"It needs {job.fewest_devices} slots of one host, and the largest live node{which} has {most}."


def _goes_first(ahead: int | None) -> str:
    if ahead is None:
        return f" More than {FARTHEST_AHEAD} jobs go first."
    if not ahead:
        return " It is next."
    return f" {ahead} job{'s go' if ahead > 1 else ' goes'} first."
