"""What a submission would make, without making it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from heimdall.recipes import registry
from training import placement
from training.models import TrainingJob
from training.services.submitting import submit


@dataclass(frozen=True)
class TriedSubmission:
    """A job as it would be queued now; its row is gone again."""

    job: TrainingJob
    waiting: placement.Reason | None
    memory_bytes: int | None
    """What its recipe estimates; None where it does not."""
    forecast: placement.Forecast


def try_submission(*, by: Any, **fields: Any) -> TriedSubmission:
    """Everything that a submission does and refuses, and then nothing of it: no row, no message, no event."""
    with transaction.atomic():
        job = submit(by=by, **fields).job
        waiting = placement.waiting_reasons([job]).get(job.pk)
        forecast = placement.forecast(job, waiting)
        transaction.set_rollback(True)
    estimate = registry.get(job.recipe).estimate_memory_bytes(job.config) if job.recipe else None
    return TriedSubmission(job, waiting, estimate, forecast)
