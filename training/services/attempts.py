"""What a supervisor does with the attempt it holds, from claim to landing.

The attempt's number is the fencing token: it stands in every WHERE, and a worker whose attempt is over gets
StaleAttempt and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, Q, QuerySet
from django.db.models.functions import Coalesce, Now

from training import placement, queue
from training.errors import NoGoodCheckpoint, StaleAttempt
from training.lifecycle import JobType, Status, Stop, Verb
from training.models import Artifact, Attempt, Checkpoint, Event, LogChunk, Metric, Node, TrainingJob
from training.policy import System
from training.services.blocks import fold_metrics
from training.services.clock import in_seconds, lease_end
from training.services.transition import (
    Raced,
    add_event,
    add_events,
    move,
    new_event,
    newest_of,
    rolled_back,
    storable,
    to_checkpoint,
    write,
)
from training.statements import update_and_read
from training.store.checkpoints import StoredCheckpoint

WORKER = System("worker")
MAX_LOG_CHARACTERS = 64 * 1024  # of one chunk; more is cut in the middle
MAX_DETAIL_CHARACTERS = 20_000
MAX_SENTENCE_CHARACTERS = 1_000


class Landing(StrEnum):
    """What became of an attempt that stopped."""

    PAUSED = "paused"
    QUEUED = "queued"
    CANCELLED = "cancelled"
    GO_ON = "go_on"  # the wish was withdrawn: nothing was written, the attempt is still open


@dataclass(frozen=True)
class News:
    """What the trainer said and the database does not know yet."""

    steps: Sequence[dict[str, Any]] = ()  # its step rows
    epochs: Sequence[dict[str, Any]] = ()  # its `epoch` messages
    log: str = ""
    phase: str | None = None
    trainer_pid: int | None = None
    step_seconds: float | None = None
    is_again: bool = False
    """No answer came when these news, or the first part of them, were sent before: twice is to be once."""


@dataclass(frozen=True)
class Wish:
    """The stop request as it stands in the database."""

    stop: Stop
    stop_at: str
    node_drains: bool = False  # somebody drained the node: land at the next step, whatever the stop


def claim(
    node: Node,
    *,
    slot: int,
    pid: int,
    pid_started_at: float = 0.0,
    job_id: int | None = None,
    is_just_read: bool = False,
) -> Attempt | None:
    """Make the best queued job ours with one conditional UPDATE, or return None where there is nothing to do.

    is_just_read: the node need not be read again. A drain that comes in between is heard with the attempt's first
    wish, as one that comes right after the claim.
    """
    while True:
        try:
            with transaction.atomic():
                if not is_just_read:
                    node.refresh_from_db(fields=["pools", "draining", "drained_at"])
                job = _next_in_queue(node, slot, job_id)
                return _claim(job, node, slot, pid, pid_started_at) if job else None
        except Raced:
            continue


def wish(attempt: Attempt) -> Wish:
    """What the job is asked to do. One read, cheap enough to be done several times a second."""
    seen = _held(attempt).values_list("stop", "stop_at", Exists(_drained(attempt))).first()
    if seen is None:
        raise StaleAttempt(f"{attempt} is over.")
    return Wish(Stop(seen[0]), seen[1], seen[2])


def beat(attempt: Attempt, **news: Any) -> Wish:
    """Renew the lease and write down the `News`, in one transaction whose first statement is fenced."""
    told = News(**news)
    with transaction.atomic():
        job = renew(attempt, _columns_of(told))
        _write_down(told, job, attempt)
        drains = _drained(attempt).exists()
    return Wish(Stop(job.stop), job.stop_at, drains)


def note_started(attempt: Attempt, message: dict[str, Any]) -> None:
    """The trainer has built everything and stands at `step`: keep what it resolved, say how exact the resume is."""
    with transaction.atomic():
        total = message.get("total_steps")
        job = renew(attempt, {"phase": "training", "approximate": message.get("approximate") or []})
        environment = message.get("environment") or {}
        resolved = {"environment": environment | job.environment, "total_steps": total}
        if message.get("learning_rate") is not None:
            resolved["learning_rate"] = finite(message["learning_rate"])
        TrainingJob.objects.filter(pk=job.pk).update(**resolved)
        job.refresh_from_db(fields=list(resolved))
        device = environment.get("device_name") or environment.get("device") or "unknown device"
        _event(job, "start", f"Training on {device} from step {message.get('step', 0)}.", data=environment)
        if job.origin and attempt.started_from and Checkpoint.Kind.START in attempt.started_from.kinds:
            _event(
                job, "carried", _carried_words(job), data=job.origin | {"learning_rate": job.learning_rate}
            )
        for sentence in message.get("approximate") or []:
            _event(job, "approximate", f"Approximate: {sentence}")


def record_checkpoint(attempt: Attempt, stored: StoredCheckpoint) -> Checkpoint:
    """The stored file becomes the job's checkpoint: row and pointer in one fenced transaction."""
    with transaction.atomic():
        job = renew(attempt, {})
        kept = _keep(job, attempt, stored)
        write(job, kept.changes, num_events=len(kept.events))
        add_events(job, *kept.events)
        _count(attempt, kept.facts)
        assert kept.row
        return kept.row


def land(
    attempt: Attempt,
    stored: StoredCheckpoint | None = None,
    *,
    news: News | None = None,
    draining: bool = False,
    final: bool = False,
    reason: str = "",
    delay_seconds: float = 0.0,
    when_decided: Callable[[], None] = lambda: None,
) -> Landing:
    """Close an attempt that stopped, by the stop as it is now.

    With no stop left (withdrawn) and neither `draining` nor `final` (the trainer cannot go on), nothing but the news
    is written and the answer is GO_ON. The checkpoint, if there is one, becomes the job's in the same transaction.

    when_decided: called with the job's row locked, when the attempt is sure to end whatever is asked for from then
    on. The trainer may leave while the rest is written; should the commit fail, the next try has to be `final`.
    """
    while True:
        try:
            with transaction.atomic():
                job = renew(attempt, _columns_of(news)) if news else _read(attempt)
                is_over = bool(job.stop or draining or final)
                if is_over:
                    when_decided()
                if news:
                    _write_down(news, job, attempt)
                return _land(job, attempt, stored, reason, delay_seconds) if is_over else Landing.GO_ON
        except Raced:
            continue


def complete(attempt: Attempt, stored: StoredCheckpoint | None) -> None:
    """The training is finished. Beats every stop and clears it."""

    def act(job: TrainingJob) -> None:
        kept = _keep(job, attempt, stored) if stored else _NOTHING_KEPT
        changes = kept.changes | (_standing_at(stored) if stored else {})
        epochs = changes.get("current_epoch", job.current_epoch)
        said = f"Completed after {epochs} epochs." if job.job_type == JobType.TRAINING else "Completed."
        if job.stop:
            said += f" It was at its end before the {job.stop} came."
        move(job, Verb.COMPLETE, by=WORKER, message=said, changes=changes, before=kept.events)
        _count(attempt, kept.facts)

    _close(attempt, Verb.COMPLETE, act)


def fail(attempt: Attempt, *, code: str, message: str, exit_code: int | None = None) -> None:
    """The recipe raised, or the job cannot go on: failed, or cancelled where that was asked for."""
    changes = {"error_code": code[:40], "error_message": _shortened(message, MAX_DETAIL_CHARACTERS)}
    first = _shortened(message.strip().splitlines()[0] if message.strip() else code, MAX_SENTENCE_CHARACTERS)

    def act(job: TrainingJob) -> None:
        move(job, Verb.FAIL, by=WORKER, message=f"Failed: {first}", changes=changes, data={"code": code})

    _close(attempt, Verb.FAIL, act, exit_code=exit_code, detail=message)


def crash(attempt: Attempt, *, exit_code: int | None, detail: str = "") -> Status:
    """The trainer died under us. Back to the last checkpoint, or failed where it dies again and again."""
    ended: list[str] = []

    def act(job: TrainingJob) -> None:
        again = job.crash_step is not None and job.current_step <= job.crash_step
        deaths = {
            "crashes_at_step": job.crashes_at_step + 1 if again else 1,
            "crash_step": max(job.current_step, job.crash_step or 0),
            "crashes_since_checkpoint": job.crashes_since_checkpoint + 1,
        }
        if _is_crash_loop(deaths) and not job.stop:
            _fail_for_crashing(job, exit_code, detail, deaths)
        else:
            said = f"The trainer died ({how_it_died(exit_code)})."
            back(job, Verb.CRASH, said, by=WORKER, changes=deaths, data={"exit_code": exit_code})
        ended.append(job.status)

    _close(attempt, Verb.CRASH, act, exit_code=exit_code, detail=detail)
    return Status(ended[0])


def release(attempt: Attempt, *, reason: str, delay_seconds: float) -> Landing:
    """Hand the job back because its checkpoint cannot be read now: queued, and not claimed before the delay."""
    return land(attempt, final=True, reason=reason, delay_seconds=delay_seconds)


def quarantine(attempt: Attempt, checkpoint: Checkpoint, reason: str) -> Checkpoint:
    """Set a checkpoint aside that failed its check, and start from the good one before it.

    Raises NoGoodCheckpoint where there is none: never a silent start from scratch.
    """
    with transaction.atomic():
        job = renew(attempt, {})
        Checkpoint.objects.filter(pk=checkpoint.pk, quarantined_at=None).update(
            quarantined_at=Now(), quarantine_reason=_shortened(reason, MAX_DETAIL_CHARACTERS)
        )
        start = newest_good_checkpoint(job)
        changes = to_checkpoint(job, start)
        changes |= {"latest_checkpoint": start, "checkpoint": start.file.name if start else ""}
        TrainingJob.objects.filter(pk=job.pk).update(**changes)
        job.refresh_from_db()
        Attempt.objects.filter(pk=attempt.pk).update(
            started_from=start, started_step=start.step if start else 0
        )
        _event(job, "quarantine", f"The checkpoint at step {checkpoint.step} was set aside: {reason}")
        if start:
            _event(job, "rollback", f"Rolled back to step {start.step}.")
    attempt.refresh_from_db()
    if start is None:
        raise NoGoodCheckpoint(
            "Every checkpoint of this job failed its check; restart begins again at step 0."
        )
    return start


def note(attempt: Attempt, kind: str, message: str, data: dict[str, Any] | None = None) -> None:
    """Leave an event that is no transition, such as a checkpoint that could not be written."""
    with transaction.atomic():
        _event(renew(attempt, {}), kind, message, data=data)


def newest_good_checkpoint(job: TrainingJob) -> Checkpoint | None:
    good = Checkpoint.objects.filter(job=job, generation=job.generation, quarantined_at=None)
    return good.order_by("-step", "-id").first()


def back(
    job: TrainingJob,
    verb: Verb,
    message: str,
    *,
    by: Any,
    changes: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Move a job whose attempt left nothing new to its last good checkpoint, and wake a worker if it is queued."""
    start = job.latest_checkpoint
    if rolled_back(job, start):
        message += f" Rolled back to step {start.step if start else 0}."
    move(job, verb, by=by, message=message, changes=to_checkpoint(job, start) | (changes or {}), data=data)
    if job.status == Status.QUEUED:
        queue.wake()


def close_attempt(job: TrainingJob, number: int, verb: str, **facts: Any) -> None:
    Attempt.objects.filter(job_id=job.pk, number=number, ended_at=None).update(
        ended_at=Now(), ended_step=job.current_step, outcome=verb, **facts
    )


def how_it_died(exit_code: int | None) -> str:
    """The exit code or the signal, in words."""
    if exit_code is None:
        return "unknown how"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    import signal

    try:
        return f"signal {-exit_code}, {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"


def finite(value: Any) -> Any:
    """The value with NaN and the infinities (numbers or the trainer's words for them) as null."""
    if isinstance(value, dict):
        return {storable(str(key)): finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return None if value in ("nan", "inf", "-inf") else storable(value)
    return value


def _next_in_queue(node: Node, slot: int, job_id: int | None) -> TrainingJob | None:
    """The best job that this slot may take, with its row locked; None too where the node takes none."""
    if not placement.takes_jobs(node):
        return None
    sql, values = _best_first(connection.vendor, placement.fits(node, slot), job_id)
    return next(iter(TrainingJob.objects.raw(sql, values)), None)


@lru_cache(maxsize=64)
def _best_first(_vendor: str, fitting: Q, job_id: int | None) -> tuple[str, tuple[Any, ...]]:
    """The statement that finds and locks a claim's job. Making it costs Django five times what its answer costs."""
    jobs = placement.claimable_jobs().filter(fitting).order_by(*placement.IN_ORDER)
    if job_id is not None:
        jobs = jobs.filter(pk=job_id)
    best = jobs.select_for_update(of=("self",), skip_locked=True)[:1]
    return best.query.get_compiler(connection=connection).as_sql()


def _drained(attempt: Attempt) -> QuerySet[Node]:
    return Node.objects.filter(attempts=attempt, drained_at__isnull=False)


def _claim(job: TrainingJob, node: Node, slot: int, pid: int, pid_started_at: float) -> Attempt:
    start = job.latest_checkpoint
    said = f"Claimed by {node.name}."
    if rolled_back(job, start):
        said += f" Rolled back to step {start.step if start else 0}."
    has_history = bool(job.attempt or start)
    changes = (to_checkpoint(job, start) if has_history else {}) | {
        "attempt": job.attempt + 1,
        "lease_expires_at": lease_end(),
        "started_at": Coalesce(F("started_at"), Now()),
        "not_before": None,
        "phase": "starting",
    }
    since = max(filter(None, (job.queued_at, _last_end(job))))
    move(job, Verb.CLAIM, by=WORKER, message=said, changes=changes, is_locked=True)
    return Attempt.objects.create(
        waited_seconds=max((job.updated_at - since).total_seconds(), 0.0),
        job=job,
        number=job.attempt,
        node=node,
        node_name=node.name,
        boot_id=node.boot_id,
        slot=slot,
        supervisor_pid=pid,
        supervisor_started_at=pid_started_at,
        started_from=start,
        started_step=start.step if start else 0,
    )


def _last_end(job: TrainingJob) -> datetime | None:
    """A job that went back to the queue keeps its place in it, but has not waited since then."""
    if not job.attempt:
        return None
    ended = Attempt.objects.filter(job=job, number=job.attempt).values_list("ended_at", flat=True)
    return ended.first()


def _held(attempt: Attempt):
    return TrainingJob.objects.filter(pk=attempt.job_id, attempt=attempt.number, status=Status.RUNNING)


def renew(attempt: Attempt, changes: dict[str, Any]) -> TrainingJob:
    """The fenced UPDATE that every worker's transaction begins with. It renews the lease and locks the row."""
    held = update_and_read(_held(attempt), {"lease_expires_at": lease_end(), "updated_at": Now()} | changes)
    if not held:
        raise StaleAttempt(f"{attempt} is over: another attempt owns the job, or it has ended.")
    return held[0]


def _write_down(news: News, job: TrainingJob, attempt: Attempt) -> None:
    """What the news say beside the job's columns, which were written with its renewal."""
    num_written = _num_written(attempt, news.steps) if news.is_again else 0
    log = _not_written(attempt, news.log) if news.is_again else news.log
    _add_metrics(job, news.steps, news.epochs)
    for message in news.epochs:
        _add_epoch_event(job, message)
    _keep_artifact(job, news.epochs)
    if log:
        LogChunk.objects.create(job=job, attempt=attempt.number, text=_shortened(log, MAX_LOG_CHARACTERS))
    _note_execution(attempt, len(news.steps) - num_written, news.trainer_pid)


def _read(attempt: Attempt) -> TrainingJob:
    jobs = TrainingJob.objects.select_related("latest_checkpoint").select_for_update(of=("self",))
    job = jobs.filter(pk=attempt.job_id).first()
    if job is None or job.attempt != attempt.number or job.status != Status.RUNNING:
        raise StaleAttempt(f"{attempt} is over: another attempt owns the job, or it has ended.")
    return job


def _close(attempt: Attempt, verb: Verb, act, *, exit_code: int | None = None, detail: str = "") -> None:
    """Run a transition that ends the attempt, again if a stop request came in between."""
    while True:
        try:
            with transaction.atomic():
                job = _read(attempt)
                act(job)
                close_attempt(
                    job,
                    attempt.number,
                    verb,
                    exit_code=exit_code,
                    detail=_shortened(detail, MAX_DETAIL_CHARACTERS),
                )
                return
        except Raced:
            continue


def _land(
    job: TrainingJob, attempt: Attempt, stored: StoredCheckpoint | None, reason: str, delay_seconds: float
) -> Landing:
    kept = _keep(job, attempt, stored) if stored else _NOTHING_KEPT
    changes = dict(kept.changes)
    if stored:
        changes |= _standing_at(stored)
    elif rolled_back(job, job.latest_checkpoint) and job.stop != Stop.CANCEL:
        reason = f"{reason} Rolled back to step {job.latest_checkpoint.step if job.latest_checkpoint else 0}.".strip()
        changes |= to_checkpoint(job, job.latest_checkpoint)
    if delay_seconds and not job.stop:
        changes["not_before"] = in_seconds(delay_seconds)
    said = _landing_words(job)
    said = f"{said} {reason}".strip()
    move(job, Verb.LAND, by=WORKER, message=said, changes=changes, before=kept.events, is_locked=True)
    close_attempt(job, attempt.number, Verb.LAND, detail=reason, **kept.facts)
    if job.status == Status.QUEUED and not delay_seconds:
        queue.wake()
    return Landing(job.status)


def _standing_at(stored: StoredCheckpoint) -> dict[str, Any]:
    """A trainer that stopped stands where its last checkpoint was taken."""
    return {"current_step": stored.step, "current_epoch": stored.epoch}


def _landing_words(job: TrainingJob) -> str:
    if job.stop == Stop.PAUSE:
        return "Paused."
    if job.stop == Stop.CANCEL:
        return "Cancelled."
    return "Preempted: back in the queue." if job.stop == Stop.PREEMPT else "Back in the queue."


@dataclass(frozen=True)
class _Kept:
    """A stored checkpoint that has its row, and what is to be written of it elsewhere."""

    row: Checkpoint | None = None
    changes: dict[str, Any] = field(default_factory=dict)  # of the job
    facts: dict[str, Any] = field(default_factory=dict)  # of the attempt
    events: tuple[Event, ...] = ()


_NOTHING_KEPT = _Kept()


def _keep(job: TrainingJob, attempt: Attempt, stored: StoredCheckpoint) -> _Kept:
    """Give a stored file its row, under the lock of the job's. The same file stored again gains the new kinds."""
    row = Checkpoint.objects.filter(file=stored.name).first()
    changes: dict[str, Any] = {"checkpoint": stored.name, "crashes_since_checkpoint": 0}
    if row is None:
        row = _new_row(job, attempt, stored)
        if Checkpoint.Kind.FINAL in stored.kinds:
            _leave_one_final(row)
        changes |= {"latest_checkpoint": row, "checkpoints_stored": F("checkpoints_stored") + 1}
        facts = {
            "checkpoints": F("checkpoints") + 1,
            "checkpoint_bytes": F("checkpoint_bytes") + stored.size,
            "checkpoint_seconds": F("checkpoint_seconds") + stored.seconds,
        }
        return _Kept(row, changes, facts, (_checkpoint_event(job, row, stored),))
    is_known = set(stored.kinds) <= set(row.kinds)  # written before; the answer was lost
    row.kinds = sorted({*row.kinds, *stored.kinds})
    row.save(update_fields=["kinds"])
    events = () if is_known else (_checkpoint_event(job, row, stored),)
    return _Kept(row, changes | {"latest_checkpoint": row}, events=events)


def _new_row(job: TrainingJob, attempt: Attempt, stored: StoredCheckpoint) -> Checkpoint:
    return Checkpoint.objects.create(
        file=stored.name,
        job=job,
        attempt=attempt.number,
        generation=job.generation,
        step=stored.step,
        epoch=stored.epoch,
        size=stored.size,
        digest=stored.digest,
        header_sha256=stored.header_sha256,
        val_loss=finite(stored.val_loss),
        kinds=sorted(stored.kinds),
    )


def _leave_one_final(row: Checkpoint) -> None:
    """A trainer that dies when its last file is stored has it stored once more by the next attempt."""
    for other in Checkpoint.objects.filter(job=row.job, generation=row.generation).exclude(pk=row.pk):
        if Checkpoint.Kind.FINAL in other.kinds:
            other.kinds = sorted({*other.kinds, Checkpoint.Kind.PERIODIC} - {Checkpoint.Kind.FINAL})
            other.save(update_fields=["kinds"])


def _checkpoint_event(job: TrainingJob, row: Checkpoint, stored: StoredCheckpoint) -> Event:
    said = f"Checkpoint at step {stored.step} ({', '.join(sorted(stored.kinds))})."
    data = {"checkpoint": row.pk, "digest": stored.digest, "kinds": sorted(stored.kinds)}
    return new_event(job, "checkpoint", said, by=WORKER, data=data)


def _count(attempt: Attempt, facts: dict[str, Any]) -> None:
    if facts:
        Attempt.objects.filter(pk=attempt.pk).update(**facts)


def _event(job: TrainingJob, kind: str, message: str, *, data: dict[str, Any] | None = None) -> None:
    """An event inside a transaction that already holds the job's row."""
    TrainingJob.objects.filter(pk=job.pk).update(event_seq=F("event_seq") + 1, updated_at=Now())
    job.event_seq += 1
    add_event(job, kind, message, by=WORKER, data=data)


def _columns_of(news: News) -> dict[str, Any]:
    """The job's columns that the news changes."""
    steps, epochs = news.steps, news.epochs
    changes: dict[str, Any] = {}
    if steps:
        changes |= {
            "current_step": steps[-1]["step"],
            "learning_rate": finite(steps[-1].get("learning_rate")),
        }
    if epochs:
        last = epochs[-1]
        changes |= newest_of(finite(last["values"])) | {
            "current_epoch": last["epoch"],
            "best_epoch": last.get("best_epoch"),
            "best_val_loss": finite(last.get("best_val_loss")),
        }
    if news.phase is not None:
        changes["phase"] = news.phase[:20]
    if news.step_seconds is not None:
        changes["step_seconds"] = finite(news.step_seconds)
    return changes


def _carried_words(job: TrainingJob) -> str:
    """What was asked for and what is effective: a schedule may be anywhere on its way."""
    origin, asked = job.origin or {}, job.config.get("learning_rate")
    what = "everything" if origin["carries"] == "training" else "the weights alone"
    said = f"Carried over from step {origin['step']} of job {origin['job']}: {what}."
    if asked is not None and job.learning_rate is not None:
        said += f" Learning rate: {asked:g} asked, {job.learning_rate:.6g} effective at the next step."
    return said


def _add_metrics(job: TrainingJob, steps: Sequence[dict[str, Any]], epochs: Sequence[dict[str, Any]]) -> None:
    rows = [
        Metric(
            job=job,
            step=row["step"],
            epoch=row["epoch"],
            attempt=job.attempt,
            values=finite({name: value for name, value in row.items() if name not in {"step", "epoch"}}),
        )
        for row in steps
    ]
    # A row that is there already came with a commit whose answer was lost.
    Metric.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    if steps:
        fold_metrics(job, steps[0]["step"], steps[-1]["step"])
    for message in epochs:
        Metric.objects.filter(job=job, step=message["step"]).update(epoch_values=finite(message["values"]))


def _num_written(attempt: Attempt, steps: Sequence[dict[str, Any]]) -> int:
    """How many of these steps this attempt has written down already."""
    known = [row["step"] for row in steps]
    return Metric.objects.filter(job_id=attempt.job_id, attempt=attempt.number, step__in=known).count()


def _not_written(attempt: Attempt, log: str) -> str:
    """The log without its beginning, if that is this attempt's newest piece already."""
    pieces = LogChunk.objects.filter(job_id=attempt.job_id, attempt=attempt.number).order_by("-id")
    return log.removeprefix(pieces.values_list("text", flat=True).first() or "")


def _add_epoch_event(job: TrainingJob, message: dict[str, Any]) -> None:
    """One event an epoch, however often it was repeated after a crash; a repetition must give the same values."""
    values = finite(message["values"])
    job.current_epoch, job.current_step = (
        message["epoch"],
        message["step"],
    )  # the event's place; news came together
    before = Event.objects.filter(
        job=job, kind="epoch", epoch=message["epoch"], data__generation=job.generation
    ).first()
    if before is None:
        losses = [values[name] for name in ("val_loss", "train_loss") if values.get(name) is not None]
        said = f"Epoch {message['epoch']} of {job.total_epochs} finished" + (
            f", loss {losses[0]:.6g}." if losses else "."
        )
        _event(job, "epoch", said, data={"generation": job.generation, "values": values})
    elif before.data.get("values") != values and not job.approximate:
        said = f"Epoch {message['epoch']} was repeated and gave other values than before."
        _event(job, "replay_differs", said, data={"before": before.data.get("values"), "values": values})


def _keep_artifact(job: TrainingJob, epochs: Sequence[dict[str, Any]]) -> None:
    """The newest one replaces the one before."""
    shown = [message for message in epochs if isinstance(message.get("artifact"), dict)]
    if shown:
        last = shown[-1]
        facts = {"step": last["step"], "epoch": last["epoch"], "content": finite(last["artifact"])}
        Artifact.objects.update_or_create(job=job, defaults=facts | {"created_at": Now()})


def _note_execution(attempt: Attempt, steps: int, trainer_pid: int | None) -> None:
    changes: dict[str, Any] = {}
    if steps:
        changes |= {
            "steps_executed": F("steps_executed") + steps,
            "first_step_at": Coalesce(F("first_step_at"), Now()),
        }
    if trainer_pid is not None:
        changes["trainer_pid"] = trainer_pid
    if changes:
        Attempt.objects.filter(pk=attempt.pk).update(**changes)


def _is_crash_loop(deaths: dict[str, Any]) -> bool:
    return (
        deaths["crashes_at_step"] >= settings.CRASHES_AT_ONE_STEP
        or deaths["crashes_since_checkpoint"] >= settings.CRASHES_WITHOUT_CHECKPOINT
    )


def _fail_for_crashing(job: TrainingJob, exit_code: int | None, detail: str, deaths: dict[str, Any]) -> None:
    times = deaths["crashes_at_step"]
    sentence = f"The trainer died {times} times in succession near step {deaths['crash_step']}"
    if times < settings.CRASHES_AT_ONE_STEP:
        sentence = f"The trainer died {deaths['crashes_since_checkpoint']} times without a newer checkpoint"
    sentence += f" ({how_it_died(exit_code)})."
    shown = _shortened(f"{sentence}\n{detail}".strip(), MAX_DETAIL_CHARACTERS)
    changes = deaths | {"error_code": "crash_loop", "error_message": shown}
    move(job, Verb.FAIL, by=WORKER, message=sentence, changes=changes, data={"exit_code": exit_code})


def _shortened(text: str, limit: int) -> str:
    text = storable(text)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
