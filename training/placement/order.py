"""The queue: which jobs wait in it, in which order they go, and what holds one back whatever node is free.

The claim and the reasons why a job waits read the same expressions.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from training.lifecycle import JobType, Status
from training.models import TrainingJob

# Written out: SQLite takes the queue's index only for a condition that it can read, which no parameter is.
IN_QUEUE = Q(status=RawSQL(f"'{Status.QUEUED}'", ()))
IS_GANG = Q(is_gang=RawSQL("TRUE", ()))  # a comparison, so that the index of gangs is taken
IN_ORDER = ("-priority", "queued_at", "id")
BACKS_OFF = Q(not_before__isnull=False, not_before__gt=Now())


def claimable_jobs() -> QuerySet[TrainingJob]:
    """Queued jobs whose time has come. A training waits for the dataset that another job still makes."""
    return TrainingJob.objects.filter(IN_QUEUE, ~BACKS_OFF, ~_waits_for_dataset())


def waiting_gangs() -> QuerySet[TrainingJob]:
    """Claimable jobs that need several slots at once, the best first."""
    return claimable_jobs().filter(IS_GANG).order_by(*IN_ORDER)


def goes_before(one: TrainingJob | Any, other: TrainingJob | Any) -> bool:
    """IN_ORDER, of two jobs."""
    return _place(one) < _place(other)


def _place(job: TrainingJob | Any) -> tuple[int, datetime, int]:
    return (-job.priority, job.queued_at, job.pk)


def dataset_makers() -> QuerySet[TrainingJob]:
    """The jobs that still make the dataset of the outer query's job."""
    return TrainingJob.objects.filter(
        dataset=OuterRef("dataset"),
        job_type=JobType.SYNTHETIC_DATA,
        status__in=[Status.QUEUED, Status.RUNNING],
    )


def _waits_for_dataset() -> Q:
    return Q(job_type=JobType.TRAINING) & Exists(dataset_makers())
