"""The worker's heartbeat: a thread that speaks to the database, so that the guard's loop never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime

from django.conf import settings
from django.db import Error, close_old_connections

from training import services
from training.host.trainer_meter import TrainerMeter
from training.models import Node
from training.worker.watchdog import ClusterWatchdog

logger = logging.getLogger(__name__)


class HeartbeatThread(threading.Thread):
    """Says that the node lives, and that it drains, and lets the watchdog look at the cluster."""

    def __init__(self, node: Node):
        super().__init__(name="heartbeat", daemon=True)
        self.watchdog = ClusterWatchdog()
        self._node = node
        self._meter = TrainerMeter()
        self._wake, self._ended, self._draining = threading.Event(), threading.Event(), threading.Event()
        self._clock: tuple[datetime, float] | None = None  # the database's, and ours when it was read

    def beat_now(self) -> None:
        """Beat, and announce housekeeping, without waiting for the next time."""
        self._wake.set()

    def drain(self) -> None:
        self._draining.set()
        self._wake.set()

    def end(self) -> None:
        self._ended.set()
        self._wake.set()

    def run(self) -> None:
        """1. beat  2. wait for the next time, or until somebody wants it now."""
        while not self._ended.is_set():
            try:
                self._beat()
            except Error as error:
                logger.warning("The database does not answer: %s", error)
                self.watchdog.database_is_away()
                close_old_connections()
            # Without its heartbeat a worker would seem dead, and nothing would look after its cluster.
            except Exception:
                logger.exception("The worker's heartbeat failed; it is tried again.")
            wanted_now = self._wake.wait(settings.SWEEP_SECONDS)
            self._wake.clear()
            if wanted_now and not self._ended.is_set():
                self.watchdog.announce_again()

    def _beat(self) -> None:
        asked = time.monotonic()
        clock = services.beat_node(self._node)
        now = time.monotonic()
        self._watch_clock(clock, asked, now)
        services.sample_resources(self._node, self._meter)
        if self._draining.is_set():
            services.set_draining(self._node)
        else:
            self.watchdog.look(asked, now)

    def _watch_clock(self, clock: datetime, asked: float, now: float) -> None:
        """Leases are counted in the database's clock: say it where that jumps."""
        if now - asked > settings.LEASE_SECONDS / 4:
            self._clock = None  # nobody knows when that was so
            return
        if self._clock is not None:
            before, at = self._clock
            jumped = (clock - before).total_seconds() - (now - at)
            if abs(jumped) > settings.LEASE_SECONDS / 2:
                logger.warning(
                    "The clock of the database went %s by %.0f s, or this host slept. Jobs may be taken over "
                    "early or late; none is lost.",
                    "forward" if jumped > 0 else "back",
                    abs(jumped),
                )
        self._clock = clock, now
