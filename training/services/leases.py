"""The lease that an attempt holds on its job: renewed in a fenced UPDATE, given up when the attempt ends.

The attempt's number is the fencing token: it stands in every WHERE, and a worker whose attempt is over gets
StaleAttempt and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from training.errors import StaleAttempt
from training.lifecycle import Status, Verb
from training.models import Attempt, GangMember, HeldSlot, TrainingJob
from training.policy import System
from training.services.clock import lease_end
from training.services.storable import MAX_DETAIL_CHARACTERS, shortened
from training.services.transition import Raced, add_event
from training.statements import update_and_read

WORKER = System("worker")


def renew(attempt: Attempt, changes: dict[str, Any]) -> TrainingJob:
    """The fenced UPDATE that every worker's transaction begins with. It renews the lease and locks the row."""
    renewed = update_and_read(
        held_job(attempt), {"lease_expires_at": lease_end(), "updated_at": Now()} | changes
    )
    if not renewed:
        raise StaleAttempt(f"{attempt} is over: another attempt owns the job, or it has ended.")
    return renewed[0]


def held_job(attempt: Attempt) -> QuerySet[TrainingJob]:
    return TrainingJob.objects.filter(pk=attempt.job_id, attempt=attempt.number, status=Status.RUNNING)


def lock_held_job(attempt: Attempt) -> TrainingJob:
    jobs = TrainingJob.objects.select_related("latest_checkpoint").select_for_update(of=("self",))
    job = jobs.filter(pk=attempt.job_id).first()
    if job is None or job.attempt != attempt.number or job.status != Status.RUNNING:
        raise StaleAttempt(f"{attempt} is over: another attempt owns the job, or it has ended.")
    return job


def close_attempt(job: TrainingJob, number: int, verb: str, **facts: Any) -> None:
    """The attempt is over, and the slots of its ranks are free."""
    Attempt.objects.filter(job_id=job.pk, number=number, ended_at=None).update(
        ended_at=Now(), ended_step=job.current_step, outcome=verb, **facts
    )
    if job.ranks > 1:
        HeldSlot.objects.filter(attempt__job_id=job.pk, attempt__number=number).delete()
    if job.num_hosts > 1:
        GangMember.objects.filter(attempt__job_id=job.pk, attempt__number=number).delete()


def end_attempt(
    attempt: Attempt,
    verb: Verb,
    act: Callable[[TrainingJob], None],
    *,
    exit_code: int | None = None,
    detail: str = "",
) -> TrainingJob:
    """Run a transition that ends the attempt, again if a stop request came in between; the job as it is then."""
    while True:
        try:
            with transaction.atomic():
                job = lock_held_job(attempt)
                act(job)
                shown = shortened(detail, MAX_DETAIL_CHARACTERS)
                close_attempt(job, attempt.number, verb, exit_code=exit_code, detail=shown)
                return job
        except Raced:
            continue


def add_to_attempt(attempt: Attempt, facts: dict[str, Any]) -> None:
    if facts:
        Attempt.objects.filter(pk=attempt.pk).update(**facts)


def note_event(job: TrainingJob, kind: str, message: str, *, data: dict[str, Any] | None = None) -> None:
    """An event inside a transaction that already holds the job's row."""
    TrainingJob.objects.filter(pk=job.pk).update(event_seq=F("event_seq") + 1, updated_at=Now())
    job.event_seq += 1
    add_event(job, kind, message, by=WORKER, data=data)
