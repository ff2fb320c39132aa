"""What a supervisor reports of the attempt it holds while it trains, and what it is asked to do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, Length, Now

from heimdall.trainer.protocol import EpochDone, Started, StateHashed
from training.errors import StaleAttempt
from training.lifecycle import JobType, Stop, StopAt
from training.models import (
    Artifact,
    Attempt,
    Checkpoint,
    Event,
    GangMember,
    LogChunk,
    Metric,
    Node,
    TrainingJob,
)
from training.services import chain
from training.services.bad_losses import note_bad_loss
from training.services.leases import held_job, note_event, renew
from training.services.metrics import add_metrics
from training.services.rollback import newest_of
from training.services.storable import MAX_LOG_CHARACTERS, finite, storable


@dataclass(frozen=True)
class Report:
    """What a trainer did since the last report."""

    steps: Sequence[dict[str, Any]] = ()  # its step rows
    epochs: Sequence[EpochDone] = ()
    log: str = ""
    hashed: Sequence[StateHashed] = ()
    phase: str | None = None
    trainer_pid: int | None = None
    step_seconds: float | None = None
    total_steps: int | None = None
    is_again: bool = False
    """No answer came when this report, or the first part of it, was sent before: twice is to be once."""
    times: Sequence[datetime] = ()
    """When each of the steps was made, where that is not now."""


NOTHING_NEW = Report()


@dataclass(frozen=True)
class StopRequest:
    """What a running job is asked to do, as it stands in the database."""

    stop: Stop
    stop_at: str
    is_node_drained: bool = False  # then the job lands at the next step, whatever its stop

    @property
    def stops_at(self) -> str:
        """The effective stop: nothing, at the epoch's end, or at the next step."""
        if self.is_node_drained or self.stop in (Stop.PREEMPT, Stop.CANCEL):
            return StopAt.STEP
        return str(self.stop_at) if self.stop is Stop.PAUSE else ""


def read_stop_request(attempt: Attempt) -> StopRequest:
    """One read, cheap enough to be done several times a second."""
    seen = held_job(attempt).values_list("stop", "stop_at", Exists(drained(attempt))).first()
    if seen is None:
        raise StaleAttempt(f"{attempt} is over.")
    return StopRequest(Stop(seen[0]), seen[1], seen[2])


def beat(attempt: Attempt, report: Report = NOTHING_NEW) -> StopRequest:
    """A heartbeat: renew the lease and write the report, in one transaction whose first statement is fenced."""
    with transaction.atomic():
        job = renew(attempt, columns_of(report, attempt.job))
        write_report(report, job, attempt)
        is_drained = drained(attempt).exists()
    return StopRequest(Stop(job.stop), job.stop_at, is_drained)


def note(attempt: Attempt, kind: str, message: str, data: dict[str, Any] | None = None) -> None:
    """Leave an event that is no transition, such as a checkpoint that could not be written."""
    with transaction.atomic():
        note_event(renew(attempt, {}), kind, message, data=data)


def note_started(attempt: Attempt, started: Started) -> None:
    """The trainer has built everything and stands at `step`: keep what it resolved, say how exact the resume is."""
    with transaction.atomic():
        job = renew(attempt, {"phase": "training", "approximate": started.approximate})
        environment = started.environment
        Attempt.objects.filter(pk=attempt.pk).update(environment=environment)
        attempt.environment = environment  # each link of the chain names it
        resolved = {"environment": environment | job.environment} | _length_of(job, started)
        resolved |= _ranks_of(job, attempt, started)
        if started.learning_rate is not None:
            resolved["learning_rate"] = finite(started.learning_rate)
        TrainingJob.objects.filter(pk=job.pk).update(**resolved)
        job.refresh_from_db(fields=list(resolved))
        device = environment.get("device_name") or environment.get("device") or "unknown device"
        note_event(job, "start", f"Training on {device} from step {started.step}.", data=environment)
        if job.origin and attempt.started_from and Checkpoint.Kind.START in attempt.started_from.kinds:
            note_event(
                job, "carried", _carried_words(job), data=job.origin | {"learning_rate": job.learning_rate}
            )
        for sentence in started.approximate:
            note_event(job, "approximate", f"Approximate: {sentence}")


def _ranks_of(job: TrainingJob, attempt: Attempt, started: Started) -> dict[str, Any]:
    """The process of each rank, and the device that it found, beside the slots that were claimed."""
    if not started.ranks or not job.rank_devices:
        return {}
    told = {row.get("rank"): row for row in started.ranks}
    devices = [
        row
        | {name: told[row["rank"]][name] for name in ("pid", "device") if told.get(row["rank"], {}).get(name)}
        for row in job.rank_devices
    ]
    Attempt.objects.filter(pk=attempt.pk).update(rank_devices=devices)
    return {"rank_devices": devices}


def _length_of(job: TrainingJob, started: Started) -> dict[str, Any]:
    """How long it is to train. A recipe is asked before; a program says it, or that it does not know."""
    if job.recipe:
        return {"total_steps": started.total_steps}
    return {
        "total_steps": started.total_steps or None,
        "total_epochs": started.total_epochs or job.total_epochs,
    }


def drained(attempt: Attempt) -> QuerySet[Node]:
    """The attempt's nodes that are drained. Of the other hosts of a job of several also those whose worker stops: its
    own supervisor is told of that by a signal."""
    own = Q(attempts=attempt, drained_at__isnull=False)
    if not attempt.rendezvous:
        return Node.objects.filter(own)
    stops = Q(drained_at__isnull=False) | Q(gang_members__leaves=True)
    return Node.objects.filter(own | Q(gang_members__attempt=attempt) & stops)


def write_report(report: Report, job: TrainingJob, attempt: Attempt) -> None:
    """All but the job's own columns, which were written with the renewal of its lease."""
    num_written = _num_written(attempt, report.steps) if report.is_again else 0
    log = storable(report.log)
    log = _not_written(attempt, log) if report.is_again else log
    add_metrics(job, report.steps, report.epochs, report.times)
    note_bad_loss(job, report.steps, report.epochs)
    for state in report.hashed:
        chain.add_hashed(job, attempt, state)
    for epoch in report.epochs:
        _add_epoch_event(job, epoch)
    _keep_artifact(job, report.epochs)
    pieces = [log[begin : begin + MAX_LOG_CHARACTERS] for begin in range(0, len(log), MAX_LOG_CHARACTERS)]
    LogChunk.objects.bulk_create([LogChunk(job=job, attempt=attempt.number, text=piece) for piece in pieces])
    _note_execution(attempt, len(report.steps) - num_written, report.trainer_pid)


def columns_of(report: Report, job: TrainingJob) -> dict[str, Any]:
    """The job's columns that the report changes."""
    steps, epochs = report.steps, report.epochs
    changes: dict[str, Any] = {}
    if steps:
        changes |= {
            "current_step": steps[-1]["step"],
            "learning_rate": finite(steps[-1].get("learning_rate")),
        }
    if steps and _may_have_no_epochs(job):
        changes |= _newest_losses(steps)
    if epochs:
        last = epochs[-1]
        changes |= newest_of(finite(last.values)) | {
            "current_epoch": last.epoch,
            "best_epoch": last.best_epoch,
            "best_val_loss": finite(last.best_val_loss),
        }
    if report.phase is not None:
        changes["phase"] = report.phase[:20]
    if report.total_steps is not None:
        changes["total_steps"] = report.total_steps
    if report.step_seconds is not None:
        changes["step_seconds"] = finite(report.step_seconds)
    return changes


def _may_have_no_epochs(job: TrainingJob) -> bool:
    return job.job_type == JobType.EXTERNAL or (bool(job.program) and job.program["kind"] == "command")


def _newest_losses(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where nothing closes an epoch the loss is the newest that was told of a step."""
    names = {"train_loss": "loss", "val_loss": "val_loss"}
    found = {
        column: next((row[name] for row in reversed(steps) if row.get(name) is not None), None)
        for column, name in names.items()
    }
    return {column: finite(value) for column, value in found.items() if value is not None}


def add_member_log(member: GangMember, log: str) -> None:
    """What the ranks of another host have printed."""
    open_ = Attempt.objects.filter(pk=member.attempt_id or 0, ended_at=None)
    attempt = open_.values_list("job", "number").first()
    if attempt is not None:
        pieces = storable(log)[:MAX_LOG_CHARACTERS]
        LogChunk.objects.create(job_id=attempt[0], attempt=attempt[1], text=pieces)


def num_log_characters(job: TrainingJob) -> int:
    return LogChunk.objects.filter(job=job).aggregate(sum=Sum(Length("text")))["sum"] or 0


def _carried_words(job: TrainingJob) -> str:
    """What was asked for and what is effective: a schedule may be anywhere on its way."""
    origin, asked = job.origin or {}, job.config.get("learning_rate")
    what = "everything" if origin["carries"] == "training" else "the weights alone"
    sentence = f"Carried over from step {origin['step']} of job {origin['job']}: {what}."
    if isinstance(asked, int | float) and job.learning_rate is not None:
        sentence += f" Learning rate: {asked:g} asked, {job.learning_rate:.6g} effective at the next step."
    return sentence


def _num_written(attempt: Attempt, steps: Sequence[dict[str, Any]]) -> int:
    """How many of these steps this attempt has written down already."""
    known = [row["step"] for row in steps]
    return Metric.objects.filter(job_id=attempt.job_id, attempt=attempt.number, step__in=known).count()


def _not_written(attempt: Attempt, log: str) -> str:
    """The log without its beginning, if that is this attempt's newest piece already, or several of which all but the
    last are full."""
    pieces = LogChunk.objects.filter(job_id=attempt.job_id, attempt=attempt.number).order_by("-id")
    written, known = "", 0
    for text in pieces.values_list("text", flat=True)[: len(log) // MAX_LOG_CHARACTERS + 1]:
        if written and len(text) < MAX_LOG_CHARACTERS:
            break
        written = text + written
        known = len(written) if log.startswith(written) else known
    return log[known:]


def _add_epoch_event(job: TrainingJob, done: EpochDone) -> None:
    """One event an epoch, however often it was repeated after a crash; a repetition must give the same values."""
    values = finite(done.values)
    job.current_epoch, job.current_step = done.epoch, done.step  # the event's place; they came together
    before = Event.objects.filter(
        job=job, kind="epoch", epoch=done.epoch, data__generation=job.generation
    ).first()
    if before is None:
        losses = [values[name] for name in ("val_loss", "train_loss") if values.get(name) is not None]
        of_all = f" of {job.total_epochs}" if job.total_epochs else ""
        sentence = f"Epoch {done.epoch}{of_all} finished" + (f", loss {losses[0]:.6g}." if losses else ".")
        note_event(job, "epoch", sentence, data={"generation": job.generation, "values": values})
    elif before.data.get("values") != values and not job.approximate:
        sentence = f"Epoch {done.epoch} was repeated and gave other values than before."
        note_event(
            job, "replay_differs", sentence, data={"before": before.data.get("values"), "values": values}
        )


def _keep_artifact(job: TrainingJob, epochs: Sequence[EpochDone]) -> None:
    """The newest one replaces the one before."""
    shown = [epoch for epoch in epochs if epoch.artifact is not None]
    if shown:
        last = shown[-1]
        facts = {"step": last.step, "epoch": last.epoch, "content": finite(last.artifact)}
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
