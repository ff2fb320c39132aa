"""How a process notices what another one committed, within milliseconds and without asking all the time.

SQLite: PRAGMA data_version moves with every commit of another connection, and asking costs microseconds.
PostgreSQL: LISTEN, on a connection that is kept for it. Whoever waits looks now and then anyway: behind a pooler of
transactions no notification arrives (HEIMDALL_LISTEN_URL leads past it), and one that came while a connection was
lost is gone.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, connection, connections

from heimdall.site import database

JOBS = "heimdall_jobs"  # notified by a trigger when a job's row was written
MESSAGES = "heimdall_messages"  # notified with each queue message
ARRIVE_SECONDS = 2.0


class CommitListener(Protocol):
    """Belongs to one thread. Raises django.db.Error where the database is away; it may be used again then."""

    sees_every_commit: bool  # and not only those that notify

    def wait(self, seconds: float) -> bool:
        """True as soon as there may be something new; False after so many seconds without."""

    def close(self) -> None: ...


def listen_to(channel: str, *, poll_seconds: float) -> CommitListener:
    """poll_seconds: how often SQLite is asked."""
    return SqliteListener(poll_seconds) if connection.vendor == "sqlite" else PostgresListener(channel)


def notify(channel: str) -> None:
    """Wake those who listen to the channel. In a transaction: by its commit, once, and never before."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [channel])


def notifications_arrive() -> bool:
    """Whether a notification of one connection reaches another. Behind a pooler of transactions it does not."""
    if connection.vendor != "postgresql":
        return True
    listener = PostgresListener(f"heimdall_check_{uuid.uuid4().hex}")
    try:
        listener.wait(0)  # begins to listen
        notify(listener.channel)
        return listener.wait(ARRIVE_SECONDS)
    finally:
        listener.close()


class SqliteListener:
    sees_every_commit = True

    def __init__(self, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._seen: tuple[Any, int] | None = None

    def wait(self, seconds: float) -> bool:
        here, until = connections[DEFAULT_DB_ALIAS], time.monotonic() + seconds
        here.ensure_connection()
        with here.wrap_database_errors:
            while not self._has_moved(here.connection):
                if time.monotonic() >= until:
                    return False
                time.sleep(self._poll_seconds)
        return True

    def close(self) -> None:
        connection.close()

    def _has_moved(self, asked: Any) -> bool:
        (version,) = asked.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, (asked, version)  # only versions of one connection can be compared
        return before != self._seen


class PostgresListener:
    sees_every_commit = False

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._connection: Any = None

    def wait(self, seconds: float) -> bool:
        with connection.wrap_database_errors:
            if self._connection is None or self._connection.closed:
                self._listen()
                return True  # whatever was notified before
            try:
                return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listen(self) -> None:
        self._connection = database.listen()
        self._connection.execute(f"LISTEN {self.channel}")
