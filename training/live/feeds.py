"""What sockets show: rows beyond a place, read once and shared by all sockets that stand there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

from channels.db import database_sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Length

from heimdall.plain_json import with_nulls
from training import policy, queries
from training.live.logins import Login
from training.live.subscriptions import subscriptions
from training.models import LogChunk, Metric, TrainingJob

NUM_EVENTS, NUM_STEPS, NUM_EPOCHS, NUM_CHUNKS = 200, 1_000, 1_000, 20  # of one message
PICTURE_EVENTS, PICTURE_STEPS, PICTURE_CHUNKS = 50, 500, 200
LOG_CHARACTERS = 64 * 1024
PAGE = queries.LIST_LIMIT
_POOL = ThreadPoolExecutor(max_workers=4, thread_name_prefix="live")


def in_database(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Run it in one of the few threads that read for sockets."""
    return database_sync_to_async(function, thread_sensitive=False, executor=_POOL)


@dataclass(frozen=True)
class FeedPosition:
    """How far a socket got: the newest event, step, closed epoch and log chunk that it was sent.

    `row` is the id of the step's row and `closed` the step that closed the epoch: a row that is gone, or another
    one in its place, tells that the job was rolled back.
    """

    after: int = 0
    step: int = 0
    row: int = 0
    epoch: int = 0
    closed: int = 0
    log: int = 0

    def as_query(self) -> str:
        return "&".join(f"{part.name}={getattr(self, part.name)}" for part in fields(self))


@dataclass(frozen=True, eq=False)
class JobUpdate:
    """What one read of a job found. `job` is None where the job is gone."""

    kind: str
    job: TrainingJob | None
    rows: str = ""  # JSON, without braces
    is_empty: bool = True
    has_more: bool = False
    place: FeedPosition = FeedPosition()
    instant: object = field(default_factory=object)
    """When it was read: a key for what is made of its job, which keeps no rows in memory."""


@dataclass(frozen=True, eq=False)
class FoundJobs:
    """What one read of several jobs found."""

    jobs: tuple[TrainingJob, ...]


@dataclass(frozen=True, eq=False)
class Message:
    """What a socket at some place is to be told. `shown` is None where it must not see the job (any longer)."""

    text: str | None
    shown: str | None
    place: FeedPosition = FeedPosition()
    has_more: bool = False


class JobFeed:
    """The reads of one job."""

    def __init__(self, job: int) -> None:
        self.job = job
        here = subscriptions()
        self._batches = Shared(lambda: here.tick(job), limit=4)
        self._jobs = Shared(lambda: here.tick(job), limit=64)
        self._messages = Shared(lambda: here.tick(job), limit=4)

    async def message(
        self, place: FeedPosition | None, asked: tuple[tuple[str, int], ...], shown: str | None, login: Login
    ) -> Message:
        """The next message for a socket at this place, which shows the job as `shown`."""
        key = (place, asked, shown, login.rights)
        return await self._messages.get(key, lambda: self._compose(place, asked, shown, login))

    async def _compose(
        self, place: FeedPosition | None, asked: tuple[tuple[str, int], ...], shown: str | None, login: Login
    ) -> Message:
        read = in_database(read_job)
        batch = await self._batches.get((place, asked), lambda: read(self.job, place, dict(asked)))
        if batch.job is None:
            return Message(None, None)
        as_json = in_database(_job_json)
        job = await self._jobs.get((batch.instant, login.rights), lambda: as_json(batch.job, login.user))
        if job is None:
            return Message(None, None)
        is_news = not batch.is_empty or job != shown
        text = f'{{"type":"{batch.kind}","job":{job},{batch.rows}}}' if is_news else None
        return Message(text, job, batch.place, batch.has_more)


class ListFeed:
    """The reads of lists of jobs."""

    def __init__(self) -> None:
        here = subscriptions()
        self._shared = Shared(lambda: here.num_wakes, limit=64)

    async def changed(self, jobs: frozenset[int], newer_than: int | None) -> FoundJobs:
        return await self._shared.get((jobs, newer_than), lambda: in_database(read_jobs)(jobs, newer_than))

    async def jsons(self, found: FoundJobs, login: Login) -> dict[int, str | None]:
        """Each job as the login sees it; None for one that it cannot see."""
        return await self._shared.get(
            (found, login.rights), lambda: in_database(_seen_jsons)(found.jobs, login.user)
        )


class Shared:
    """The newest few results of reads, shared until the tick moves. What raised is not kept."""

    def __init__(self, tick: Callable[[], int], *, limit: int) -> None:
        self._tick, self._limit = tick, limit
        self._at = -1
        self._tasks: dict[Hashable, asyncio.Task] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> Any:
        if self._at != self._tick():
            self._tasks, self._at = {}, self._tick()
        tasks = self._tasks
        if key not in tasks:
            if len(tasks) >= self._limit:
                del tasks[next(iter(tasks))]
            tasks[key] = asyncio.ensure_future(read())
        task = tasks[key]
        try:
            return task.result() if task.done() else await asyncio.shield(task)
        except Exception:
            tasks.pop(key, None)
            raise


def read_job(job_id: int, place: FeedPosition | None, asked: dict[str, int]) -> JobUpdate:
    """What lies beyond the place, all of one instant; a picture where there is no place yet.

    asked: the positions a new socket came with. `after` beyond the job's events is answered by a picture too.
    """
    with snapshot():
        job = queries.with_relations(TrainingJob.objects.filter(pk=job_id)).first()
        if job is None:
            return JobUpdate("gone", None)
        if place is None and 0 <= asked.get("after", -1) <= job.event_seq:
            place = _asked_place(job, asked)
        return _changes(job, place) if place else _picture(job)


def read_jobs(jobs: frozenset[int], newer_than: int | None) -> FoundJobs:
    found = list(queries.with_relations(TrainingJob.objects.filter(pk__in=jobs)))
    if newer_than is not None:
        newer = TrainingJob.objects.filter(pk__gt=newer_than).exclude(pk__in=jobs).order_by("-pk")
        found += queries.with_relations(newer)[:PAGE]
    return FoundJobs(tuple(found))


def page_of(actor: Any, ids: tuple[int, ...] | None) -> list[int]:
    """The ids that a list shows: the newest, or those asked for as far as the actor can see them."""
    visible = policy.visible_jobs(actor).order_by("-pk").values_list("pk", flat=True)
    return list(visible.filter(pk__in=ids) if ids is not None else visible[:PAGE])


def picture_of_list(actor: Any, ids: tuple[int, ...] | None) -> tuple[int, dict[int, str]]:
    """The newest id there is, and the jobs of the list as JSON."""
    newest = TrainingJob.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    jobs = queries.with_relations(policy.visible_jobs(actor).order_by("-pk"))
    shown = jobs.filter(pk__in=ids) if ids is not None else jobs[:PAGE]
    return newest, {shape["id"]: to_json(shape) for shape in queries.dicts(shown, actor)}


@contextmanager
def snapshot() -> Iterator[None]:
    """All reads inside see one instant. Takes no lock: writers do not wait for it, nor it for them."""
    begin = "BEGIN" if connection.vendor == "sqlite" else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    if connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(begin)
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def to_json(value: Any) -> str:
    try:
        return json.dumps(value, cls=DjangoJSONEncoder, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(with_nulls(value), cls=DjangoJSONEncoder, allow_nan=False, separators=(",", ":"))


def _picture(job: TrainingJob) -> JobUpdate:
    events = queries.newest_events(job.pk, PICTURE_EVENTS)
    steps = queries.newest_steps(job.pk, PICTURE_STEPS)
    epochs = _closed(job).order_by("-step")[:NUM_EPOCHS]
    log, _ = _at_most(LogChunk.objects.filter(job_id=job.pk).order_by("-pk"), PICTURE_CHUNKS)
    return _batch("picture", job, FeedPosition(), events, steps, list(epochs)[::-1], log)


def _changes(job: TrainingJob, place: FeedPosition) -> JobUpdate:
    kept = _kept(job, place)
    events = queries.events_after(job.pk, place.after, NUM_EVENTS)
    steps = queries.steps_after(job.pk, kept.step, NUM_STEPS)
    epochs = [] if job.current_epoch == kept.epoch else list(_closed(job, kept.closed)[:NUM_EPOCHS])
    log, is_cut = _at_most(
        LogChunk.objects.filter(job_id=job.pk, pk__gt=place.log).order_by("pk"), NUM_CHUNKS
    )
    batch = _batch("changes", job, kept, events, steps, epochs, log, is_rolled_back=kept != place)
    full = len(events) == NUM_EVENTS or len(steps) == NUM_STEPS or len(epochs) == NUM_EPOCHS
    return replace(batch, has_more=full or is_cut)


def _batch(
    kind: str,
    job: TrainingJob,
    place: FeedPosition,
    events: list,
    steps: list[Metric],
    epochs: list[Metric],
    log: list[LogChunk],
    *,
    is_rolled_back: bool = False,
) -> JobUpdate:
    if events:
        place = replace(place, after=events[-1].seq)
    rows: dict[str, Any] = {"seq": place.after}
    if is_rolled_back:
        rows["rolled_back_to"] = {"step": place.step, "epoch": place.epoch}
    rows["events"] = [queries.event_dict(event) for event in events]
    rows["steps"] = [queries.step_dict(row) for row in steps]
    rows["epochs"] = [queries.epoch_dict(row) for row in epochs]
    rows["log"] = [
        {
            "id": chunk.pk,
            "attempt": chunk.attempt,
            "created_at": queries.iso(chunk.created_at),
            "text": chunk.text,
        }
        for chunk in log
    ]
    if steps:
        place = replace(place, step=steps[-1].step, row=steps[-1].pk)
    if epochs:
        place = replace(place, epoch=epochs[-1].epoch, closed=epochs[-1].step)
    if log:
        place = replace(place, log=log[-1].pk)
    rows["next"] = place.as_query()
    is_empty = not (events or steps or epochs or log or is_rolled_back)
    return JobUpdate(kind, job, to_json(rows)[1:-1], is_empty, place=place)


def _asked_place(job: TrainingJob, asked: dict[str, int]) -> FeedPosition:
    """The positions asked for; one that was left out starts at the present."""
    place = _present(job)
    if "step" in asked:
        place = replace(place, step=asked["step"], row=asked.get("row", 0))
    if "epoch" in asked:
        place = replace(
            place, epoch=asked["epoch"], closed=asked.get("closed", _closing_step(job, asked["epoch"]))
        )
    return replace(place, after=asked["after"], log=asked.get("log", place.log))


def _present(job: TrainingJob) -> FeedPosition:
    step = Metric.objects.filter(job_id=job.pk).order_by("-step").first()
    epoch = _closed(job).order_by("-step").first()
    chunk = LogChunk.objects.filter(job_id=job.pk).order_by("-pk").first()
    return FeedPosition(
        after=job.event_seq,
        step=step.step if step else 0,
        row=step.pk if step else 0,
        epoch=epoch.epoch if epoch else 0,
        closed=epoch.step if epoch else 0,
        log=chunk.pk if chunk else 0,
    )


def _kept(job: TrainingJob, place: FeedPosition) -> FeedPosition:
    """The place, taken back to where the job was rolled back to if the rows that it stands on are gone."""
    step, row = place.step, place.row
    if step:
        # Rows beyond a rollback were deleted, and those written again since have greater ids.
        older = Metric.objects.filter(job_id=job.pk, step__lte=step)
        older = older.filter(pk__lte=row) if row else older
        step, row = older.order_by("-step").values_list("step", "pk").first() or (0, 0)
        row = row if place.row else 0
    epoch, closed = place.epoch, place.closed
    if closed and (closed > step or not _closed(job, closed - 1).filter(step=closed).exists()):
        last = _closed(job).filter(step__lte=min(step, closed)).order_by("-step").first()
        epoch, closed = (last.epoch, last.step) if last else (0, 0)
    return replace(place, step=step, row=row, epoch=epoch, closed=closed)


def _closed(job: TrainingJob, after: int = 0):
    return Metric.objects.filter(job_id=job.pk, step__gt=after, epoch_values__isnull=False).order_by("step")


def _closing_step(job: TrainingJob, epoch: int) -> int:
    last = _closed(job).filter(epoch__lte=epoch).order_by("-step").first()
    return last.step if last else 0


def _at_most(chunks: QuerySet[LogChunk], num_chunks: int) -> tuple[list[LogChunk], bool]:
    """The first chunks that fit into one message, at least one, by id; and whether there are more."""
    sizes = list(chunks.annotate(size=Length("text")).values_list("pk", "size")[: num_chunks + 1])
    total, fitting = 0, []
    for pk, size in sizes[:num_chunks]:
        total += size
        if fitting and total > LOG_CHARACTERS:
            break
        fitting.append(pk)
    rows = list(LogChunk.objects.filter(pk__in=fitting).order_by("pk")) if fitting else []
    return rows, len(fitting) < len(sizes)


def _job_json(job: TrainingJob, actor: Any) -> str | None:
    return to_json(queries.job_dict(job, actor)) if policy.may(actor, policy.SEE, job) else None


def _seen_jsons(jobs: tuple[TrainingJob, ...], actor: Any) -> dict[int, str | None]:
    seen = [job for job in jobs if policy.may(actor, policy.SEE, job)]
    shapes = {shape["id"]: to_json(shape) for shape in queries.dicts(seen, actor)}
    return {job.pk: shapes.get(job.pk) for job in jobs}
