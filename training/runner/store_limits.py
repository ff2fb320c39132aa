"""What bounds the store: what is kept out of it, and what is taken away again. Neither ends a training by failing."""

from __future__ import annotations

import logging

from heimdall.errors import HeimdallError
from training import services
from training.models import Attempt
from training.runner.database_retry import DATABASE_AWAY

logger = logging.getLogger(__name__)


def why_not_stored(attempt: Attempt, size: int) -> str:
    """What keeps a checkpoint out of the store. A database that is away keeps none."""
    try:
        return services.why_not_stored(attempt, size)
    except DATABASE_AWAY:
        return ""


def retire(attempt: Attempt) -> None:
    """Delete what the retention no longer keeps. A failure only leaves it for the next time."""
    try:
        services.retire_checkpoints(attempt.job)
    except (HeimdallError, *DATABASE_AWAY) as error:
        logger.warning("Job %s: old checkpoints stay for now: %s", attempt.job_id, error)
