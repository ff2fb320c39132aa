"""The watchdog of a cluster: a cluster that executes no messages is found, and replaced ever more slowly.

The canary is the announcement of housekeeping. A cluster that does not execute it for CANARY_SECONDS, while the
database answers, is stuck: django-q2 does not notice that a killed process kept the queue's lock.
"""

from __future__ import annotations

import threading
import time

from django.conf import settings

from training import host, queue

LONGEST_PAUSE_SECONDS = 60.0  # between two clusters that die at once
LONGEST_PATIENCE_SECONDS = 600.0  # with a cluster that has not answered yet
START_SECONDS = 30.0  # that a cluster may take to execute its first message


class ClusterWatchdog:
    """Sends the canary and waits for its answer. Whoever looks says when: a thread that speaks to the database."""

    def __init__(self) -> None:
        self._number: int = time.time_ns() // 1_000
        self._message: queue.MessageKey = 0
        self._unanswered_since: float | None = None
        self._announced_at = 0.0
        self._has_answered = False
        self._fruitless = 0  # clusters in a row that never answered
        self._is_stuck = threading.Event()

    def cluster_is_stuck(self) -> bool:
        return self._is_stuck.is_set()

    def pause_before_the_next_cluster(self) -> float:
        """0 after a cluster that worked; ever longer where one after the other dies before it has."""
        if self._has_answered or self._fruitless == 0:
            return 0.0
        return min(self._growth() / 2, LONGEST_PAUSE_SECONDS)

    def cluster_was_started(self) -> None:
        self._fruitless = 0 if self._has_answered else self._fruitless + 1
        self._has_answered = False
        self._unanswered_since = None
        self._message = 0
        self._is_stuck.clear()

    def database_is_away(self) -> None:
        """The cluster cannot work either, so it is not waited for."""
        self._unanswered_since = None

    def announce_again(self) -> None:
        """Send the canary with the next look, whether the last one was taken or not."""
        self._message = 0

    def look(self, asked: float, now: float) -> None:
        """asked, now: when the database was last asked, and when it answered."""
        if self._unanswered_since is not None:
            self._unanswered_since += now - asked  # the cluster waited for the database too
        if host.canary_answer() == self._number:
            self._unanswered_since, self._has_answered = None, True
        elif self._unanswered_since is not None and now - self._unanswered_since > self._patience():
            queue.forget_housekeeping()
            self._is_stuck.set()
            return
        if self._unanswered_since is None:
            self._number += 1
            self._unanswered_since = now
            self._announce(now)
        elif not self._message or (now - self._announced_at > self._patience() / 3 and self._is_lost()):
            self._announce(now)

    def _announce(self, now: float) -> None:
        self._message, self._announced_at = queue.announce_housekeeping(self._number), now

    def _is_lost(self) -> bool:
        """Taken long ago and not answered, or wiped."""
        return not queue.is_waiting(self._message)

    def _patience(self) -> float:
        """How long an answer may take. A fresh cluster has to start first, on a busy machine slowly."""
        if self._has_answered:
            return settings.CANARY_SECONDS
        return min(max(settings.CANARY_SECONDS, START_SECONDS) * self._growth(), LONGEST_PATIENCE_SECONDS)

    def _growth(self) -> int:
        """Twice as much for each cluster that never answered, as far as it matters."""
        return 2 ** min(self._fruitless, 10)
