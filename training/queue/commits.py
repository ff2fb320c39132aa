"""How a process notices what another one committed, within milliseconds and without asking all the time.

SQLite: PRAGMA data_version moves with every commit of another connection, and asking costs microseconds.
PostgreSQL: LISTEN, on a connection that is kept for it. Whoever waits looks now and then anyway: behind a pooler of
transactions nothing is heard (HEIMDALL_LISTEN_URL leads past it), and what was said while a connection was lost is
gone.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, connection, connections

from heimdall.site import database

JOBS = "heimdall_jobs"  # said by a trigger when a job's row was written
MESSAGES = "heimdall_messages"  # said with each queue message
HEARD_SECONDS = 2.0


class Ear(Protocol):
    """Belongs to one thread. Raises django.db.Error where the database is away; it may be used again then."""

    hears_all: bool  # every commit, and not only what somebody says

    def wait(self, seconds: float) -> bool:
        """True as soon as there may be something new; False after so many seconds without."""

    def close(self) -> None: ...


def ear(channel: str, *, every_seconds: float) -> Ear:
    """every_seconds: how often SQLite is asked."""
    return SqliteEar(every_seconds) if connection.vendor == "sqlite" else PostgresEar(channel)


def say(channel: str) -> None:
    """Wake those who listen. In a transaction: by its commit, once, and never before."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [channel])


def are_heard() -> bool:
    """Whether what is said on one connection reaches another. Behind a pooler of transactions it does not."""
    if connection.vendor != "postgresql":
        return True
    ear = PostgresEar(f"heimdall_check_{uuid.uuid4().hex}")
    try:
        ear.wait(0)  # begins to listen
        say(ear.channel)
        return ear.wait(HEARD_SECONDS)
    finally:
        ear.close()


class SqliteEar:
    hears_all = True

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._seen: tuple[Any, int] | None = None

    def wait(self, seconds: float) -> bool:
        here, until = connections[DEFAULT_DB_ALIAS], time.monotonic() + seconds
        here.ensure_connection()
        with here.wrap_database_errors:
            while not self._has_moved(here.connection):
                if time.monotonic() >= until:
                    return False
                time.sleep(self._every_seconds)
        return True

    def close(self) -> None:
        connection.close()

    def _has_moved(self, asked: Any) -> bool:
        (version,) = asked.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, (asked, version)  # only versions of one connection can be compared
        return before != self._seen


class PostgresEar:
    hears_all = False

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._connection: Any = None

    def wait(self, seconds: float) -> bool:
        with connection.wrap_database_errors:
            if self._connection is None or self._connection.closed:
                self._listen()
                return True  # whatever was said before
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
