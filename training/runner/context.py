"""What the parts of a supervisor share of one attempt: its rows, folders, uploads, and how long it may wait."""

from __future__ import annotations

import logging
import shutil

from django.conf import settings

from training import services
from training.models import Attempt
from training.runner.database_retry import GracePeriod
from training.runner.storing import Storing
from training.services import StopRequest

logger = logging.getLogger(__name__)


class AttemptContext:
    def __init__(self, attempt: Attempt, slot: int, *, name: str = ""):
        """name: that of another host than the one which leads the attempt; its folders are its own."""
        self.attempt = attempt
        self.job = attempt.job
        self.slot = slot
        self.staging = settings.STAGING_DIR / f"{attempt.job_id}-a{attempt.number}{name and f'-of-{name}'}"
        self.scratch = settings.SCRATCH_DIR / str(attempt.job_id) / (name and f"of-{name}")
        self.storing = Storing(attempt)
        self.grace = GracePeriod(attempt.job_id)
        self.retry_until_grace_ends = self.grace.retry_until_grace_ends
        self.has_stored = False

    def remove_staging(self) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)

    def log(self, what: str) -> None:
        number, job = self.attempt.number, self.job.pk
        logger.info("Attempt %d of job %d %s", number, job, what, extra={"verb": what})

    def land_unstarted(self, request: StopRequest) -> None:
        """Land where nothing was executed yet: there is nothing to store."""
        draining = self.grace.has_begun() or request.is_node_drained
        landing = services.land(
            self.attempt, draining=draining, final=True, reason=self.why_it_lands(request)
        )
        self.log(f"landed before its first step: {landing}")

    def why_it_lands(self, request: StopRequest) -> str:
        """Said to people beside where the job went."""
        if request.is_node_drained:
            return f"Node {self.attempt.node_name} was drained."
        return f"The worker of {self.attempt.node_name} stops." if self.grace.has_begun() else ""
