"""Retries with backoff: for the database without end, and while the host drains no longer than its grace period."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connection

from training import host

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.1, 2.0  # between two tries; doubled each time

# The database cannot be reached. InternalError: the connection was cut in a transaction, or it is read-only.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)


class GraceIsOver(Exception):
    """The host drains, and the attempt could not land in time."""


class GracePeriod:
    """How long one attempt may still take. It has no end until the host drains."""

    def __init__(self, job_id: int):
        self._job_id = job_id
        self._ends_at: float | None = None

    def has_begun(self) -> bool:
        """Whether the host drains. The period counts from the first time that this is seen."""
        if not host.stop_signals.must_land():
            return False
        if self._ends_at is None:
            self._ends_at = time.monotonic() + settings.DRAIN_GRACE_SECONDS
        return True

    def is_over(self) -> bool:
        return self.has_begun() and time.monotonic() >= (self._ends_at or 0)

    def retry_until_grace_ends(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what needs the database, again with backoff while it is away. Only a drain sets a limit."""
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                return work(*args, **kwargs)
            except DATABASE_AWAY as error:
                logger.warning("Job %s: the database does not answer: %s", self._job_id, error)
                connection.close()
            if self.is_over():
                raise GraceIsOver
            time.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)


def with_own_connection(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """For a thread that needs the database once: its connection is closed after the work."""
    try:
        return work(*args, **kwargs)
    finally:
        connection.close()
