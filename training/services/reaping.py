"""What becomes of attempts whose supervisor is gone: power cut, killed worker, host lost."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from training.lifecycle import Status, Verb
from training.models import (
    Attempt,
    Node,
    TrainingJob,
)
from training.policy import System
from training.services.clock import in_seconds
from training.services.landing import back_to_checkpoint
from training.services.leases import close_attempt
from training.services.transition import Raced

REAPER = System("reaper")
FARTHEST_AHEAD_SECONDS = 3_600.0  # beyond a lease: hosts may be set to leases of different lengths


def expired_attempts() -> list[Attempt]:
    """Open attempts whose lease has run out, in the database's clock. One look; the reaper takes two."""
    return _open_attempts(TrainingJob.objects.filter(_has_run_out(), status=Status.RUNNING))


def orphaned_attempts(node: Node, is_alive) -> list[Attempt]:
    """Open attempts of this host whose supervisor is known to be gone: an earlier boot, or no such process.

    is_alive(pid, started_at) -> bool asks this host's process table.
    """
    running = _open_attempts(TrainingJob.objects.filter(status=Status.RUNNING, attempts__node=node))
    here = [attempt for attempt in running if attempt.node_id == node.pk]
    return [
        attempt
        for attempt in here
        if attempt.boot_id != node.boot_id
        or not is_alive(attempt.supervisor_pid, attempt.supervisor_started_at)
    ]


def reap(attempt: Attempt, *, reason: str = "", even_if_leased: bool = False) -> bool:
    """Close a lost attempt; False where somebody was faster or the lease was renewed. Loss is never a crash.

    even_if_leased: the supervisor is known to be dead, so nobody will renew the lease.
    """
    try:
        with transaction.atomic():
            jobs = TrainingJob.objects.select_related("latest_checkpoint").annotate(clock=Now())
            jobs = jobs.filter(pk=attempt.job_id, attempt=attempt.number, status=Status.RUNNING)
            job = (jobs if even_if_leased else jobs.filter(_has_run_out())).first()
            if job is None or not _still_leased_so(job):
                return False
            reason = reason or _why(job)
            back_to_checkpoint(job, Verb.REAP, f"The worker was lost. {reason}", by=REAPER)
            close_attempt(job, attempt.number, Verb.REAP, detail=reason)
            return True
    except Raced:
        return False


def _has_run_out() -> Q:
    """Over, or so far ahead that the database's clock must have gone back: a live worker's next beat mends that,
    and a dead one's job does not wait for the clock to catch up."""
    ahead = in_seconds(settings.LEASE_SECONDS + FARTHEST_AHEAD_SECONDS)
    return Q(lease_expires_at__lt=Now()) | Q(lease_expires_at__gt=ahead)


def _why(job: Any) -> str:
    """`clock` is the database's, read with the job."""
    if job.lease_expires_at > job.clock:
        return "Its lease lies far ahead: the clock of the database went back."
    return "Its lease ran out."


def _still_leased_so(job: TrainingJob) -> bool:
    """Lock the row and make sure that no beat came between the look and the lock."""
    same = TrainingJob.objects.filter(pk=job.pk, attempt=job.attempt, lease_expires_at=job.lease_expires_at)
    return same.update(phase=job.phase) == 1


def _open_attempts(jobs) -> list[Attempt]:
    ids = list(jobs.values_list("pk", flat=True))
    rows = Attempt.objects.filter(job_id__in=ids, ended_at=None).select_related("job", "node")
    return list(rows)
