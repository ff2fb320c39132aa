"""What django-q2's cluster takes messages from: the database, or Redis and the database.

A message that is taken is deleted. A broker waits for a notification of the database instead of sleeping, so that a
job starts within milliseconds; it looks now and then anyway.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.db.models import Q
from django.db.models.functions import Now
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ

from training import host
from training.queue import commits, redis_queue
from training.queue.messages import own_key, task_package

WAIT_SECONDS = 0.1  # for a notification, at a time
POLL_SQLITE_SECONDS = 0.003  # SQLite has none: how often it is asked
LOOK_ANYWAY_SECONDS = 1.0  # for a message of which no notification came
FOR_OTHERS_SECONDS = 0.5
RETRY_SECONDS = 0.5
REDIS_WAIT_SECONDS = 1.0  # for a message; a cluster that is told to stop notices it after this
logger = logging.getLogger(__name__)


class Broker(ORM):
    """django-q2's queue in the database, with four changes: it waits for a notification instead of sleeping;
    taking a message deletes it; each host has, beside the common queue, one of its own (for its housekeeping); and
    the messages are ours, not pickles."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Opened by the process that waits: this one may only fork it.
        self._listener: commits.CommitListener | None = None
        self._look_at = 0.0
        self._num_failures = 0

    def dequeue(self) -> list[tuple[int, str]] | None:
        """The next message; None after a short while without one, for django-q2 has something else to ask then."""
        try:
            taken = self.next()
        except Error as error:
            self._wait_for_the_database(error)
            return None
        self._num_failures = 0
        return [(pk, package) for pk, payload in taken if (package := task_package(payload))] or None

    def next(self) -> list[tuple[int, str]]:
        return self.look() if self._is_time_to_look() else []

    def look(self) -> list[tuple[int, str]]:
        """What waits in the database now."""
        taken = _take_messages(_for_this_host(self.list_key))
        self._look_at = 0.0 if taken else time.monotonic() + LOOK_ANYWAY_SECONDS
        return taken

    def _is_time_to_look(self) -> bool:
        if self._listener is None:
            self._listener = commits.listen_to(commits.MESSAGES, poll_seconds=POLL_SQLITE_SECONDS)
        return time.monotonic() >= self._look_at or self._listener.wait(WAIT_SECONDS)

    def _wait_for_the_database(self, error: Error) -> None:
        """A message that was not taken is still there. django-q2 itself would end this process."""
        self._num_failures += 1
        if self._num_failures == 1:
            logger.warning("The queue waits for the database: %s", error)
        connection.close()
        self._look_at = 0.0
        time.sleep(RETRY_SECONDS)

    def enqueue(self, task: str) -> int:
        raise TypeError("Messages are sent by training.queue.messages alone.")

    def queue_size(self) -> int:
        return OrmQ.objects.filter(key=self.list_key).count()

    def lock_size(self) -> int:
        return 0


class RedisBroker(Broker):
    """Takes from Redis the moment a message comes, and between two waits from the database: what was sent while
    Redis did not answer lies there."""

    def next(self) -> list[tuple[int, str]]:
        # However busy Redis is: what lies in the database has its turn.
        if time.monotonic() >= self._look_at and (taken := self.look()):
            return taken
        try:
            message = redis_queue.take(own_key(), self.list_key, seconds=REDIS_WAIT_SECONDS)
        except redis_queue.RedisUnavailable:
            return super().next()
        return [(0, message)] if message is not None else self.look()

    def queue_size(self) -> int:
        return super().queue_size() + redis_queue.count(self.list_key)


def _for_this_host(common: str) -> Q:
    """A host without a free slot leaves a wake-up to the others for a moment."""
    if settings.SQLITE or len(host.supervisors()) < settings.SLOTS:
        return Q(key__in=(common, own_key()))
    left_over = Q(key=common, lock__lt=Now() - timedelta(seconds=FOR_OTHERS_SECONDS))
    return Q(key=own_key()) | left_over


def _take_messages(chosen: Q) -> list[tuple[int, str]]:
    """The oldest messages, taken by nobody else, in one statement.

    It does not wait for the disk: a power cut may bring a message back, which wakes once more, and that is all.
    """
    oldest, taking, values = _statements(connection.vendor, chosen)
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite":
            cursor.execute(taking, values)
            return [(pk, payload) for pk, payload, _ in cursor.fetchall()]
        cursor.execute(oldest, values)
        if cursor.fetchone() is None:
            return []  # only looking takes no lock
        cursor.execute("PRAGMA synchronous=NORMAL")
        try:
            cursor.execute(taking, values)
            return cursor.fetchall()
        finally:
            cursor.execute("PRAGMA synchronous=FULL")


@lru_cache(maxsize=16)
def _statements(vendor: str, chosen: Q) -> tuple[str, str, tuple[Any, ...]]:
    """What finds the oldest messages, what takes them, and the values of both. Made once: a wake-up waits for it.

    PostgreSQL passes over those that others are taking now, and is told with the deletion not to wait for the disk.
    """
    waiting = OrmQ.objects.filter(chosen).order_by("id").values("id")[: Conf.BULK]
    oldest, values = waiting.query.get_compiler(connection=connection).as_sql()
    delete, returning = f"DELETE FROM {OrmQ._meta.db_table} WHERE id", "RETURNING id, payload"
    if vendor == "sqlite":
        return oldest, f"{delete} IN ({oldest}) {returning}", values
    # An array, or the planner might look for the oldest again for each row.
    taking = f"{delete} = ANY(ARRAY({oldest} FOR UPDATE SKIP LOCKED)) {returning}"
    return oldest, f"{taking}, set_config('synchronous_commit', 'off', true)", values
