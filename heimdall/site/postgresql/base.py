"""Django's PostgreSQL, but nobody waits without end for a server that says nothing.

A server that is frozen (a virtual machine that was suspended, a disk that hangs) keeps its connections: the kernel
answers for it, so keepalives find nothing wrong, and its own time limits stand still with it. Only the client can
give up. It closes the connection then, and what it had asked may still be done or not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import psycopg
from django.db.backends.postgresql import base

# That kept connections may take to show that they work. Less than the pool's 5 s, which adds a pause to what is left.
CHECK_SECONDS = 4.0
_asked = threading.local()


@contextmanager
def answers_within(seconds: float) -> Iterator[None]:
    """In this thread all answers together are waited for no longer than this; a connection's own limit holds too."""
    before = getattr(_asked, "deadline", None)
    _asked.deadline = _least(before, time.monotonic() + seconds)
    try:
        yield
    finally:
        _asked.deadline = before


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up, and closes itself, when the server is silent for `silence_seconds` (None: never)."""

    silence_seconds: float | None = None

    @classmethod
    def connect(
        cls, conninfo: str = "", *, silence_seconds: float | None = None, **params: Any
    ) -> BoundedConnection:
        made = super().connect(conninfo, **params)
        made.silence_seconds = silence_seconds
        return made

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("timeout") is not None:  # of one that listens, to whom silence is nothing bad
            return super().wait(gen, *args, **kwargs)
        limit = _least(self.silence_seconds, _left())
        try:
            return super().wait(gen, *args, **kwargs | {"timeout": limit})
        except psycopg.errors._WaitTimeout as error:
            self.close()
            raise psycopg.OperationalError(f"the server has said nothing for {limit:.2g} s") from error


class DatabaseWrapper(base.DatabaseWrapper):
    # What Django calls "the database" is the module; `connect` is all of it that is ours.
    Database = SimpleNamespace(**vars(psycopg) | {"connect": BoundedConnection.connect})

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Also one that a pool hands out, which looks first whether it works."""
        with answers_within(CHECK_SECONDS):
            connection = super().get_new_connection(conn_params)
        # Behind a pooler of transactions somebody's LISTEN may stand on it, and psycopg would keep all that is said.
        with suppress(ValueError):
            connection.remove_notify_handler(_ignore)
        connection.add_notify_handler(_ignore)
        return connection

    def is_usable(self) -> bool:
        with answers_within(CHECK_SECONDS):
            return super().is_usable()


def _ignore(_: psycopg.Notify) -> None:
    pass


def _left() -> float | None:
    """Seconds until this thread has waited enough; a pool that looks at several connections has them together."""
    deadline = getattr(_asked, "deadline", None)
    return None if deadline is None else max(0.01, deadline - time.monotonic())


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
