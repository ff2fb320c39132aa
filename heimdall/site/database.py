"""The database that DATABASE_URL names: SQLite for one host, PostgreSQL for any number of them."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from heimdall.site import env

VARIABLE, LISTEN_VARIABLE = "DATABASE_URL", "HEIMDALL_LISTEN_URL"
SQLITE, POSTGRES = "django.db.backends.sqlite3", "django.db.backends.postgresql"
BOUNDED_POSTGRES = "heimdall.site.postgresql"  # the same, and no wait for an answer is without end
FORMS = "sqlite:////path/to/file or postgres://user:password@host:5432/database"
# A network that swallows packets must not hold anybody for minutes: what libpq and the kernel give up after.
PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
IDLE_IN_TRANSACTION_SECONDS = 30  # a process that was stopped in a transaction keeps its locks no longer
OLDEST_SQLITE = (3, 35)
SILENCE_SECONDS = 2  # after the end of a statement's time; a server that works has said so by then


def configured(data_dir: Path) -> dict[str, Any]:
    """The `default` entry of DATABASES."""
    # No URL of the folder: a # or a % in its name would lead elsewhere.
    default = {"ENGINE": SQLITE, "NAME": str(data_dir / "heimdall.sqlite3")}
    database = _parsed(env.text(VARIABLE)) if env.text(VARIABLE) else default
    return _sqlite(database, data_dir) if database["ENGINE"] == SQLITE else _postgres(database)


def share_connections(name: str) -> None:
    """For a process in which every request has a thread of its own: connections come from a pool.

    Call it before the first connection, and never in a process that forks: a pool has threads.
    """
    _limit(name)
    options, is_sqlite = _in_use()
    if not is_sqlite:
        from heimdall.site.postgresql.base import BoundedConnection

        options["pool"] = {
            "connection_class": BoundedConnection,
            "min_size": 1,
            "max_size": settings.WEB_CONNECTIONS,
            "timeout": 5,
            "max_idle": 60,
        }


def keep_connections(name: str) -> None:
    """For a process with few threads that live long: each keeps its connection from task to task."""
    _limit(name)
    connections.settings["default"]["CONN_MAX_AGE"] = None


def answers_within(seconds: float) -> AbstractContextManager[None]:
    """In this thread, an answer that takes longer is an error. SQLite has nobody who could be silent."""
    if _in_use()[1]:
        return nullcontext()
    from heimdall.site.postgresql.base import answers_within

    return answers_within(seconds)


def listening(is_sqlite: bool) -> str:
    """The URL that LISTEN is said at, where it is not the one of everything else."""
    url = env.text(LISTEN_VARIABLE)
    if not url:
        return ""
    if is_sqlite:
        raise ImproperlyConfigured(f"{LISTEN_VARIABLE} is set, and {VARIABLE} names no PostgreSQL database.")
    from psycopg import ProgrammingError, conninfo

    try:
        named = conninfo.conninfo_to_dict(url)
    except ProgrammingError:
        named = {}
    if urlsplit(url).scheme not in {"postgres", "postgresql"} or not named.get("dbname"):
        raise ImproperlyConfigured(
            f"{LISTEN_VARIABLE} is no PostgreSQL database: use postgres://user:password@host:5432/database."
        )
    return url


def listen() -> Any:
    """A connection of its own, for LISTEN: Django's come and go, and a pool must not get one that listens."""
    from psycopg import Cursor, conninfo

    asked = connections["default"].get_connection_params()
    if settings.LISTEN_URL:
        ours = {name: asked[name] for name in ("application_name", "silence_seconds") if name in asked}
        asked = PATIENCE | ours | conninfo.conninfo_to_dict(settings.LISTEN_URL)
    return connections["default"].Database.connect(**asked | {"autocommit": True, "cursor_factory": Cursor})


def lost_limits() -> list[str]:
    """Limits of a process that serves that do not reach the server: a pooler may leave them out."""
    if _in_use()[1]:
        return []
    ours = connections["default"]
    asked = ours.get_connection_params()
    options = f"{_as_options(_limits())} {asked.get('options', '')}".strip()
    with ours.wrap_database_errors, ours.Database.connect(**asked | {"options": options}) as connection:
        kept = {limit: connection.execute(f"SHOW {limit}").fetchone()[0] != "0" for limit in _limits()}
    return [limit for limit, seconds in _limits().items() if seconds and not kept[limit]]


def _limit(name: str) -> None:
    """Statements of a process that serves get an end, which those of commands such as `migrate` do not have."""
    options, is_sqlite = _in_use()
    if is_sqlite:
        return
    # A cursor of the server's belongs to one session, and a pooler of transactions has no sessions.
    connections.settings["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
    if settings.STATEMENT_SECONDS:
        options["silence_seconds"] = settings.STATEMENT_SECONDS + SILENCE_SECONDS
    # The URL's own come last and hold.
    options["options"] = f"{_as_options(_limits())} {options.get('options', '')}".strip()
    options.setdefault("application_name", f"heimdall {name}")


def _limits() -> dict[str, float]:
    return {
        "statement_timeout": settings.STATEMENT_SECONDS,
        "lock_timeout": settings.LOCK_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS,
    }


def _as_options(limits: dict[str, float]) -> str:
    return " ".join(f"-c {limit}={int(seconds * 1000)}" for limit, seconds in limits.items())


def _in_use() -> tuple[dict[str, Any], bool]:
    database = connections.settings["default"]
    return database["OPTIONS"], database["ENGINE"] == SQLITE


def _parsed(url: str) -> dict[str, Any]:
    """Never shows the URL: there is a password in it."""
    try:
        scheme = urlsplit(url).scheme
        database = env.parse_database(url)
    except Exception as error:
        raise ImproperlyConfigured(f"{VARIABLE} is not a database URL: use {FORMS}.") from error
    if "#" in url.rpartition("@")[2]:  # what follows would be left out without a word
        raise ImproperlyConfigured(f"{VARIABLE} holds a #: write it as %23.")
    if database.get("ENGINE") not in {SQLITE, POSTGRES}:
        raise ImproperlyConfigured(f"{VARIABLE} names {scheme or 'nothing'} as its database: use {FORMS}.")
    if database["NAME"] in {"", ":memory:"}:
        raise ImproperlyConfigured(f"{VARIABLE} names no database: use {FORMS}.")
    return database


def _sqlite(database: dict[str, Any], data_dir: Path) -> dict[str, Any]:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ImproperlyConfigured(
            f"This Python's SQLite is {sqlite3.sqlite_version}; Heimdall needs 3.35 or newer (UPDATE ... RETURNING). "
            f"Use a newer Python, or name a PostgreSQL database in {VARIABLE}."
        )
    if "OPTIONS" in database:
        raise ImproperlyConfigured(
            f"{VARIABLE}: a SQLite database takes no options; name the file alone, and a ? in its name as %3F."
        )
    # The database is the only truth, so a commit must be on the disk when it returns.
    database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": env.seconds("HEIMDALL_SQLITE_BUSY_SECONDS", 30, low=0.1),
        # Up to 16 MB of pages: SQLite's own 2 MB hold less than a list looks at, and fetching them again costs more.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; "
        "PRAGMA cache_size=-16000;",
    }
    # A file, for tests too: connections of several threads and processes meet in it.
    database["TEST"] = {"NAME": str(data_dir / "test.sqlite3")}
    return database


def _postgres(database: dict[str, Any]) -> dict[str, Any]:
    from psycopg import IsolationLevel, ProgrammingError, conninfo

    asked = database.pop("OPTIONS", {})
    unknown = database.keys() - {"ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT"}
    try:
        conninfo.make_conninfo("", **asked)
    except ProgrammingError as error:
        raise ImproperlyConfigured(
            f"{VARIABLE}: {str(error).strip()}; options are those of libpq."
        ) from error
    if unknown:
        names = ", ".join(sorted(unknown)).lower()
        raise ImproperlyConfigured(f"{VARIABLE}: option {names} is not known; options are those of libpq.")
    database["ENGINE"] = BOUNDED_POSTGRES
    # Whatever the server's default is: our conditional UPDATEs count rows and are not to be refused instead.
    database["OPTIONS"] = PATIENCE | asked | {"isolation_level": IsolationLevel.READ_COMMITTED}
    database["CONN_HEALTH_CHECKS"] = True
    return database
