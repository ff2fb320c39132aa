"""How a supervisor takes the best queued job for its slot."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from training import placement
from training.lifecycle import Verb
from training.models import (
    Attempt,
    Node,
    TrainingJob,
)
from training.services.clock import lease_end
from training.services.leases import WORKER
from training.services.rollback import rolled_back, to_checkpoint
from training.services.transition import Raced, move


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
    request, as one that comes right after the claim.
    """
    while True:
        try:
            with transaction.atomic():
                if not is_just_read:
                    node.refresh_from_db(fields=["pools", "environments", "draining", "drained_at"])
                job = _next_in_queue(node, slot, job_id)
                return _claim(job, node, slot, pid, pid_started_at) if job else None
        except Raced:
            continue


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


def _claim(job: TrainingJob, node: Node, slot: int, pid: int, pid_started_at: float) -> Attempt:
    start = job.latest_checkpoint
    message = f"Claimed by {node.name}."
    if rolled_back(job, start):
        message += f" Rolled back to step {start.step if start else 0}."
    has_history = bool(job.attempt or start)
    changes = (to_checkpoint(job, start) if has_history else {}) | {
        "attempt": job.attempt + 1,
        "lease_expires_at": lease_end(),
        "started_at": Coalesce(F("started_at"), Now()),
        "not_before": None,
        "phase": "starting",
    }
    since = max(filter(None, (job.queued_at, _last_end(job))))
    move(job, Verb.CLAIM, by=WORKER, message=message, changes=changes, is_locked=True)
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
