"""One dict of a job for API, pages and push, and the verbs that an actor may use."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from heimdall.plain_json import with_nulls
from training import lifecycle, placement, policy
from training.lifecycle import JobType, Status, Stop, StopAt
from training.models import Checkpoint, TrainingJob
from training.queries.values import iso

LIST_LIMIT = 50
SILENT_AFTER = timedelta(minutes=10)  # of an external job: then people are told how long ago it reported
EVIDENCE = ("replayed", "checked", "not shown", "differs")
FIELDS = (
    "id", "job_name", "description", "job_type", "recipe", "program", "code", "promise", "evidence",
    "owner", "team", "parent", "origin", "tags", "dataset", "priority", "pool", "status", "stop",
    "headline", "waiting", "phase", "attempt", "ranks", "rank_devices", "config", "current_epoch",
    "total_epochs", "current_step", "total_steps", "progress_percent", "eta_seconds", "train_loss",
    "val_loss", "metrics", "learning_rate", "best_epoch", "best_val_loss", "error_code", "error_message",
    "checkpoint", "environment", "approximate", "event_seq", "heard_at", "created_at", "queued_at",
    "started_at", "completed_at", "updated_at", "verbs",
)  # fmt: skip
PROMISES = ("exact", "not shown to be exact", "its own checkpoints", "none")


def job_dict(job: TrainingJob, actor: Any = None) -> dict[str, Any]:
    """What every door shows of a job. Times are ISO 8601 in UTC; a value that is not finite is null."""
    return dicts([job], actor)[0]


def dicts(jobs: Iterable[TrainingJob], actor: Any) -> list[dict[str, Any]]:
    """Many jobs as every door shows them; queued ones cost a few queries, however many they are."""
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
        code=job.code.digest if job.code_id and job.code else None,
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
    code: str | None,
    checkpoint: dict[str, Any] | None,
) -> dict[str, Any]:
    """The one shape of a job, from a TrainingJob or from a row of a list; what other tables hold is given."""
    return {
        "id": job.id,
        "job_name": job.job_name,
        "description": job.description,
        "job_type": job.job_type,
        "recipe": job.recipe or None,
        "program": job.program or None,
        "code": code,
        "promise": promise(job),
        "evidence": evidence(job),
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
        "ranks": job.ranks,
        "rank_devices": job.rank_devices,
        "config": job.config,
        "current_epoch": job.current_epoch,
        "total_epochs": job.total_epochs,
        "current_step": job.current_step,
        "total_steps": job.total_steps,
        "progress_percent": progress_percent(job),
        "eta_seconds": eta_seconds(job),
        "train_loss": with_nulls(job.train_loss),
        "val_loss": with_nulls(job.val_loss),
        "metrics": job.metrics,
        "learning_rate": with_nulls(job.learning_rate),
        "best_epoch": job.best_epoch,
        "best_val_loss": with_nulls(job.best_val_loss),
        "error_code": job.error_code,
        "error_message": job.error_message,
        "checkpoint": checkpoint,
        "environment": job.environment,
        "approximate": job.approximate,
        "event_seq": job.event_seq,
        "heard_at": iso(job.heard_at),
        "created_at": iso(job.created_at),
        "queued_at": iso(job.queued_at),
        "started_at": iso(job.started_at),
        "completed_at": iso(job.completed_at),
        "updated_at": iso(job.updated_at),
        "verbs": available_verbs(job, actor) if actor is not None else [],
    }


def with_relations(jobs: QuerySet[TrainingJob]) -> QuerySet[TrainingJob]:
    """The joins that job_dict needs, so that a list costs one query."""
    return jobs.select_related("owner", "team", "latest_checkpoint", "dataset", "code")


def available_verbs(job: TrainingJob, actor: Any) -> list[str]:
    """The verbs that are allowed now, to this actor, and would change something: the buttons."""
    offered = lifecycle.offered(Status(job.status), Stop(job.stop), job.facts)
    return [str(verb) for verb in offered if policy.may(actor, verb, job)]


def promise(job: TrainingJob | Any) -> str:
    """What a pause of the job is worth, and no more than was seen: one of PROMISES."""
    if job.recipe:
        return "exact"
    if job.job_type == JobType.EXTERNAL:
        return "none"
    if job.program["kind"] == "script":
        return "exact" if _is_shown(job) else "not shown to be exact"
    return "its own checkpoints" if job.program["checkpoint_folder"] else "none"


def evidence(job: TrainingJob | Any) -> str:
    """What is known of this job's own training: one of EVIDENCE."""
    found = job.replayed if job.replayed.get("generation") == job.generation else {}
    if found.get("state") in ("replayed", "differs"):
        return str(found["state"])
    return "checked" if job.program and job.program["kind"] == "script" and _is_shown(job) else "not shown"


def _is_shown(job: TrainingJob | Any) -> bool:
    """Whether a check has passed on the device and the torch that this job trains with."""
    found = {name: job.environment.get(name) for name in ("device_name", "torch")}
    return found in job.shown_exact_on


def headline(job: TrainingJob) -> str:
    """What is going on, in a few words: "pausing at the end of epoch 7"."""
    if job.stop == Stop.PAUSE:
        if job.program and job.program["kind"] == "command":
            return "pausing: it was asked to save and leave"
        if job.stop_at == StopAt.STEP:
            return "pausing at the next step"
        following = job.current_epoch + 1
        return f"pausing at the end of epoch {min(following, job.total_epochs) if job.total_epochs else following}"
    if job.stop == Stop.CANCEL:
        return "cancelling at the next step"
    if job.stop == Stop.PREEMPT:
        return "making room for a job that goes first"
    if job.status == Status.RUNNING and (silence := _silence(job)):
        return f"no report for {silence}"
    if job.status == Status.RUNNING and job.phase and job.phase != "training":
        return job.phase
    if job.status == Status.QUEUED and job.current_step:
        return f"queued, goes on from step {job.current_step}"
    if job.status == Status.PAUSED:
        return f"paused at step {job.current_step}"
    return job.status


def _silence(job: TrainingJob | Any) -> str:
    """How long ago an external job reported last, where that is long ago."""
    if job.heard_at is None:
        return ""
    silent_for = timezone.now() - job.heard_at
    if silent_for < SILENT_AFTER:
        return ""
    minutes = int(silent_for.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def progress_percent(job: TrainingJob) -> float:
    """0 to 100. A completed job that stopped early has all of what there was to do."""
    if job.status == Status.COMPLETED:
        return 100.0
    if job.total_steps:
        return round(100.0 * min(job.current_step / job.total_steps, 1.0), 2)
    return round(100.0 * min(job.current_epoch / job.total_epochs, 1.0), 2) if job.total_epochs else 0.0


def eta_seconds(job: TrainingJob) -> float | None:
    """Seconds of work left at the recent pace, or None where that is not known."""
    if job.status != Status.RUNNING or not job.total_steps or not job.step_seconds:
        return None
    return round(max(job.total_steps - job.current_step, 0) * job.step_seconds, 1)


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
        "val_loss": with_nulls(checkpoint.val_loss),
        "pinned": checkpoint.pinned,
        "quarantined_at": iso(checkpoint.quarantined_at),
        "quarantine_reason": checkpoint.quarantine_reason,
        "created_at": iso(checkpoint.created_at),
    }


def last_job_of(user: Any, recipe: str) -> TrainingJob | None:
    """The newest job that the user has made with the recipe: what its next form may start from."""
    return TrainingJob.objects.filter(owner=user.pk, recipe=recipe).order_by("-id").first()


def is_training(job: TrainingJob) -> bool:
    return job.job_type == JobType.TRAINING
