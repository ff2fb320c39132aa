"""The reads that doors share: one dict of a job for API, pages and push, and the verbs that an actor may use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from training import lifecycle, placement, policy
from training.lifecycle import JobType, Status, Stop, StopAt
from training.models import Artifact, Attempt, Checkpoint, Dataset, Event, LogChunk, Metric, TrainingJob

LIST_LIMIT = 50


def job_dict(job: TrainingJob, actor: Any = None) -> dict[str, Any]:
    """What every door shows of a job. Times are ISO 8601 in UTC; a value that is not finite is null."""
    return dicts([job], actor)[0]


def dicts(jobs: Iterable[TrainingJob], actor: Any) -> list[dict[str, Any]]:
    """The same of many; queued ones cost a few queries, however many they are."""
    jobs = list(jobs)
    reasons = placement.waiting_reasons(jobs)
    return [_job_dict(job, actor, reasons.get(job.pk)) for job in jobs]


def _job_dict(job: TrainingJob, actor: Any, reason: placement.Reason | None) -> dict[str, Any]:
    return shape(
        job,
        actor,
        reason,
        owner=job.owner.get_username(),
        team=job.team.name if job.team_id and job.team else None,
        dataset=job.dataset.name if job.dataset_id and job.dataset else None,
        checkpoint=checkpoint_dict(job.latest_checkpoint) if job.latest_checkpoint else None,
    )


def shape(
    job: Any,
    actor: Any,
    reason: placement.Reason | None,
    *,
    owner: str,
    team: str | None,
    dataset: str | None,
    checkpoint: dict[str, Any] | None,
) -> dict[str, Any]:
    """The one shape of a job, from a TrainingJob or from a row of a list; what other tables hold is given."""
    return {
        "id": job.id,
        "job_name": job.job_name,
        "description": job.description,
        "job_type": job.job_type,
        "recipe": job.recipe,
        "owner": owner,
        "team": team,
        "parent": job.parent_id,
        "origin": job.origin,
        "tags": job.tags,
        "dataset": dataset,
        "priority": job.priority,
        "pool": job.pool,
        "status": job.status,
        "stop": {"kind": job.stop, "at": job.stop_at} if job.stop else None,
        "headline": headline(job),
        "waiting": reason.as_dict() if reason else None,
        "phase": job.phase,
        "attempt": job.attempt,
        "config": job.config,
        "current_epoch": job.current_epoch,
        "total_epochs": job.total_epochs,
        "current_step": job.current_step,
        "total_steps": job.total_steps,
        "progress_percent": progress_percent(job),
        "eta_seconds": eta_seconds(job),
        "train_loss": finite(job.train_loss),
        "val_loss": finite(job.val_loss),
        "metrics": job.metrics,
        "learning_rate": finite(job.learning_rate),
        "best_epoch": job.best_epoch,
        "best_val_loss": finite(job.best_val_loss),
        "error_code": job.error_code,
        "error_message": job.error_message,
        "checkpoint": checkpoint,
        "environment": job.environment,
        "approximate": job.approximate,
        "event_seq": job.event_seq,
        "created_at": iso(job.created_at),
        "queued_at": iso(job.queued_at),
        "started_at": iso(job.started_at),
        "completed_at": iso(job.completed_at),
        "updated_at": iso(job.updated_at),
        "verbs": available_verbs(job, actor) if actor is not None else [],
    }


def with_relations(jobs: QuerySet[TrainingJob]) -> QuerySet[TrainingJob]:
    """The joins that job_dict needs, so that a list costs one query."""
    return jobs.select_related("owner", "team", "latest_checkpoint", "dataset")


def available_verbs(job: TrainingJob, actor: Any) -> list[str]:
    """The verbs that are allowed now, to this actor, and would change something: the buttons."""
    offered = lifecycle.offered(Status(job.status), Stop(job.stop), job.facts)
    return [str(verb) for verb in offered if policy.may(actor, verb, job)]


def headline(job: TrainingJob) -> str:
    """What is going on, in a few words: "pausing at the end of epoch 7"."""
    if job.stop == Stop.PAUSE:
        if job.stop_at == StopAt.STEP:
            return "pausing at the next step"
        return f"pausing at the end of epoch {min(job.current_epoch + 1, max(job.total_epochs, 1))}"
    if job.stop == Stop.CANCEL:
        return "cancelling at the next step"
    if job.stop == Stop.PREEMPT:
        return "making room for a job of higher priority"
    if job.status == Status.RUNNING and job.phase and job.phase != "training":
        return job.phase
    if job.status == Status.QUEUED and job.current_step:
        return f"queued, goes on from step {job.current_step}"
    if job.status == Status.PAUSED:
        return f"paused at step {job.current_step}"
    return job.status


def progress_percent(job: TrainingJob) -> float:
    """0 to 100. A completed job that stopped early has all of what there was to do."""
    if job.status == Status.COMPLETED:
        return 100.0
    if job.total_steps:
        return round(100.0 * min(job.current_step / job.total_steps, 1.0), 2)
    return round(100.0 * job.current_epoch / job.total_epochs, 2) if job.total_epochs else 0.0


def eta_seconds(job: TrainingJob) -> float | None:
    """Seconds of work left at the recent pace, or None where that is not known."""
    if job.status != Status.RUNNING or not job.total_steps or not job.step_seconds:
        return None
    return round(max(job.total_steps - job.current_step, 0) * job.step_seconds, 1)


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


def checkpoint_dict(checkpoint: Checkpoint | Any) -> dict[str, Any]:
    return {
        "id": checkpoint.id,
        "job": checkpoint.job_id,
        "kinds": checkpoint.kinds,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "attempt": checkpoint.attempt,
        "size": checkpoint.size,
        "digest": checkpoint.digest,
        "header_sha256": checkpoint.header_sha256,
        "val_loss": finite(checkpoint.val_loss),
        "pinned": checkpoint.pinned,
        "quarantined_at": iso(checkpoint.quarantined_at),
        "quarantine_reason": checkpoint.quarantine_reason,
        "created_at": iso(checkpoint.created_at),
    }


def dataset_dicts(datasets: Iterable[Dataset]) -> list[dict[str, Any]]:
    """What every door shows of datasets, with one query for the jobs that make and read them."""
    datasets = list(datasets)
    jobs: dict[int, list[TrainingJob]] = {dataset.pk: [] for dataset in datasets}
    wanted = TrainingJob.objects.filter(dataset__in=datasets).order_by("id")
    for job in wanted.only("dataset", "job_type", "status", "config", "current_step", "total_steps"):
        jobs[job.dataset_id].append(job)
    return [_dataset_dict(dataset, jobs[dataset.pk]) for dataset in datasets]


def _dataset_dict(dataset: Dataset, jobs: list[TrainingJob]) -> dict[str, Any]:
    makers = [job for job in jobs if job.job_type == JobType.SYNTHETIC_DATA]
    return {
        "name": dataset.name,
        "recipe": dataset.recipe,
        "owner": dataset.owner.get_username(),
        "team": dataset.team.name if dataset.team_id and dataset.team else None,
        "state": _dataset_state(makers),
        "samples": dataset.samples,
        "wanted_samples": max([_end_of(job.config) for job in makers], default=dataset.samples),
        "size": dataset.size,
        "refused": dataset.refused,
        "fingerprint": dataset.fingerprint,
        "config": dataset.config,
        "made_by": [job.pk for job in makers],
        "read_by": [job.pk for job in jobs if job.job_type != JobType.SYNTHETIC_DATA],
        "created_at": iso(dataset.created_at),
        "updated_at": iso(dataset.updated_at),
    }


def _dataset_state(makers: list[TrainingJob]) -> str:
    """Making while a job is at it, incomplete where one stopped early."""
    statuses = {job.status for job in makers}
    if statuses & {Status.QUEUED, Status.RUNNING}:
        return "making"
    return "incomplete" if statuses - {Status.COMPLETED} else "complete"


def _end_of(config: dict[str, Any]) -> int:
    return int(config.get("first_sample", 0)) + int(config.get("samples", 0))


def dataset_summary(dataset: Dataset) -> dict[str, Any]:
    """What the recipe said of the shards: `histograms` added up, and `shown` of the first shard, for its drawing."""
    entries = list(dataset.shards.order_by("id").values_list("entry", flat=True))
    histograms: dict[str, Any] = {}
    for entry in entries:
        for name, found in (entry.get("histograms") or {}).items():
            _add_up(histograms, name, found)
    shown = (entries[0].get("shown") or {}) if entries else {}
    return shown | {"histograms": histograms, "samples": dataset.samples, "shards": len(entries)}


def _add_up(histograms: dict[str, Any], name: str, found: dict[str, Any]) -> None:
    """Shards of one dataset share their edges; one that does not is left out rather than mixed in."""
    known = histograms.setdefault(name, found | {"counts": [0] * len(found["counts"])})
    if all(known[edge] == found[edge] for edge in ("scale", "low", "high")) and len(known["counts"]) == len(
        found["counts"]
    ):
        known["counts"] = [one + other for one, other in zip(known["counts"], found["counts"], strict=True)]


def artifact_dict(job: TrainingJob) -> dict[str, Any]:
    """What the recipe shows of the newest validated epoch; `content` is null where there is nothing yet."""
    found = Artifact.objects.filter(job_id=job.pk).first()
    if found is None:
        return {"epoch": 0, "step": 0, "content": None}
    return {"epoch": found.epoch, "step": found.step, "content": found.content}


def attempt_dict(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "node": attempt.node_name,
        "slot": attempt.slot,
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


def why_not_stored(job: TrainingJob) -> str:
    """Why the running attempt's newest checkpoint is not stored; empty where one was stored since."""
    if job.status != Status.RUNNING:
        return ""
    told = Event.objects.filter(
        job=job, attempt=job.attempt, kind__in=("checkpoint", "checkpoint_failed")
    ).order_by("-seq")
    newest = told.first()
    return newest.message if newest and newest.kind == "checkpoint_failed" else ""


def is_training(job: TrainingJob) -> bool:
    return job.job_type == JobType.TRAINING


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
