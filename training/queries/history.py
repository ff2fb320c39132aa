"""What happened to a job: its events, attempts, metrics and log, beyond a place or the newest."""

from __future__ import annotations

from typing import Any

from training.lifecycle import Status
from training.models import Artifact, Attempt, Event, LogChunk, Metric, TrainingJob
from training.queries.values import iso


def event_dict(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "job": event.job_id,
        "kind": event.kind,
        "message": event.message,
        "actor": event.actor,
        "attempt": event.attempt,
        "status": event.status,
        "stop": event.stop or None,
        "step": event.step,
        "epoch": event.epoch,
        "data": event.data,
        "created_at": iso(event.created_at),
    }


def attempt_dict(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "node": attempt.node_name,
        "slot": attempt.slot,
        "ranks": attempt.ranks,
        "rank_devices": attempt.rank_devices,
        "trainer_pid": attempt.trainer_pid,
        "started_at": iso(attempt.started_at),
        "started_step": attempt.started_step,
        "first_step_at": iso(attempt.first_step_at),
        "ended_at": iso(attempt.ended_at),
        "ended_step": attempt.ended_step,
        "steps_executed": attempt.steps_executed,
        "outcome": attempt.outcome,
        "exit_code": attempt.exit_code,
        "detail": attempt.detail,
    }


def artifact_dict(job: TrainingJob) -> dict[str, Any]:
    """What the recipe shows of the newest validated epoch; `content` is null where there is nothing yet."""
    found = Artifact.objects.filter(job_id=job.pk).first()
    if found is None:
        return {"epoch": 0, "step": 0, "content": None}
    return {"epoch": found.epoch, "step": found.step, "content": found.content}


def step_dict(row: Metric) -> dict[str, Any]:
    """A step's values, flat, as the charts and the API want them."""
    return {"step": row.step, "epoch": row.epoch, **row.values}


def epoch_dict(row: Metric) -> dict[str, Any]:
    return {"epoch": row.epoch, "step": row.step, **(row.epoch_values or {})}


def steps_after(job_id: int, step: int, limit: int) -> list[Metric]:
    return list(Metric.objects.filter(job_id=job_id, step__gt=step).order_by("step")[:limit])


def newest_steps(job_id: int, limit: int) -> list[Metric]:
    return list(Metric.objects.filter(job_id=job_id).order_by("-step")[:limit])[::-1]


def epochs_of(job_id: int, after: int = 0, limit: int = 100_000) -> list[Metric]:
    """The rows of closed epochs, in order."""
    closed = Metric.objects.filter(job_id=job_id, epoch__gt=after, epoch_values__isnull=False)
    return list(closed.order_by("step")[:limit])


def events_after(job_id: int, seq: int, limit: int) -> list[Event]:
    return list(Event.objects.filter(job_id=job_id, seq__gt=seq).order_by("seq")[:limit])


def newest_events(job_id: int, limit: int) -> list[Event]:
    return list(Event.objects.filter(job_id=job_id).order_by("-seq")[:limit])[::-1]


def log_after(job_id: int, chunk_id: int, limit: int) -> list[LogChunk]:
    return list(LogChunk.objects.filter(job_id=job_id, id__gt=chunk_id).order_by("id")[:limit])


def newest_log(job_id: int, limit: int) -> list[LogChunk]:
    return list(LogChunk.objects.filter(job_id=job_id).order_by("-id")[:limit])[::-1]


def bad_loss(job: TrainingJob) -> str:
    """Since which step its loss is not a number; empty where it always was one."""
    found = Event.objects.filter(job=job, kind="loss_not_finite", data__generation=job.generation)
    return found.values_list("message", flat=True).first() or ""


def why_not_stored(job: TrainingJob) -> str:
    """Why the running attempt's newest checkpoint is not stored; empty where one was stored since."""
    if job.status != Status.RUNNING:
        return ""
    transitions = Event.objects.filter(
        job=job, attempt=job.attempt, kind__in=("checkpoint", "checkpoint_failed")
    ).order_by("-seq")
    newest = transitions.first()
    return newest.message if newest and newest.kind == "checkpoint_failed" else ""
