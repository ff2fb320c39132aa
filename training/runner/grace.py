"""How long an attempt may wait: for the database without end, and in a drain no longer than its grace."""

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

AWAY = (OperationalError, InterfaceError, InternalError)  # the last: cut off in a transaction, or read-only


class GraceIsOver(Exception):
    """The host drains, and the attempt could not land in time."""


class Grace:
    """One attempt's. It has no end until the host drains."""

    def __init__(self, job_id: int):
        self._job_id = job_id
        self._ends_at: float | None = None

    def has_begun(self) -> bool:
        """Whether the host drains. The grace counts from the first time that it is seen."""
        if not host.stop_signals.must_land():
            return False
        if self._ends_at is None:
            self._ends_at = time.monotonic() + settings.DRAIN_GRACE_SECONDS
        return True

    def is_over(self) -> bool:
        return self.has_begun() and time.monotonic() >= (self._ends_at or 0)

    def persist(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write to the database, however long that takes. Only a drain sets a limit."""
        delay = 0.1
        while True:
            try:
                return write(*args, **kwargs)
            except AWAY as error:
                logger.warning("Job %s: the database does not answer: %s", self._job_id, error)
                connection.close()
            if self.is_over():
                raise GraceIsOver
            time.sleep(delay)
            delay = min(2 * delay, 2.0)


def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do it in a thread that speaks to the database now and perhaps never again."""
    try:
        return work(*args, **kwargs)
    finally:
        connection.close()
