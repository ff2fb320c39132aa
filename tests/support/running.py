"""A real web server and a real worker on a data folder of their own, and a small REST client with deadlines.

    with running(tmp_path, worker=True, HEIMDALL_SLOTS="2") as site:
        job = site.submit(epochs=3)
        site.wait_for(job, lambda job: job["status"] == "completed", seconds=60)

`running(tmp_path, server=postgresql)` is the same on a database of that server.

Leases are short, nothing is faked. Whatever was started is gone when the block is left.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from tests.support import postgres

ROOT = Path(__file__).resolve().parents[2]
RECIPES = "tests.support.recipes.tiny,tests.support.recipes.shards,tests.support.recipes.faulty"
QUICK = {
    "HEIMDALL_LEASE_SECONDS": "4",
    "HEIMDALL_HEARTBEAT_SECONDS": "0.5",
    "HEIMDALL_SWEEP_SECONDS": "0.5",
    "HEIMDALL_DRAIN_GRACE_SECONDS": "30",
    "HEIMDALL_DEMO": "0",
    "HEIMDALL_RECIPES": RECIPES,
    "HEIMDALL_VERB_RATE": "100000/min",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    "CUDA_VISIBLE_DEVICES": "",
}
MARK = "STARTED_FOR_THE_TEST_ON"  # in the environment of each process that we start, and of its children
# A title is written over the command line, and over the environment only where the mark does not have to be read.
ROOM_FOR_TITLES = ("-X", "title=" + 120 * "_")
PATIENCE = float(os.environ.get("HEIMDALL_TEST_PATIENCE", "1"))  # for slow machines: stretches every deadline


def told(values: Any) -> Any:
    """What a step computed: how long it took, and which rank was the slowest, is never the same twice."""
    row = json.loads(values) if isinstance(values, str) else values
    return {name: value for name, value in row.items() if name not in ("step_seconds", "slowest_rank")}


class TookTooLong(AssertionError):
    """A deadline passed."""


class Answer(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, body: dict[str, Any]):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Site:
    """What runs on one data folder. Attributes `web` and `worker` are processes, or None."""

    def __init__(self, folder: Path, settings: dict[str, str], server: postgres.Server | None = None):
        self.data = folder / "data"
        self.port = free_port()
        self.log_path = folder / "log.txt"
        self.environment = _clean_environment() | QUICK | settings
        self.environment |= {"HEIMDALL_DATA_DIR": str(self.data), "HEIMDALL_PORT": str(self.port)}
        self.environment |= {MARK: str(self.data), "SPT_NOENV": "1"}  # titles must not overwrite the mark
        self.web: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._server = server or (postgres.server() if postgres.IS_DEFAULT else None)
        if self._server is not None:
            kept = folder / "database-url"  # for a second site on the same folder
            if not kept.exists():
                is_very_first = self.data.exists()  # and empty
                made = self._server.empty() if is_very_first else self._server.copy("heimdall", prepare)
                kept.write_text(made)
            self.environment["DATABASE_URL"] = kept.read_text()
        if not self.data.exists():
            shutil.copytree(prepared_data(self._server), self.data)

    # Processes.

    def start(self, *command: str, **settings: str) -> subprocess.Popen[bytes]:
        with open(self.log_path, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *ROOM_FOR_TITLES, "manage.py", *command],
                cwd=ROOT,
                env=self.environment | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def start_web(self) -> None:
        self.web = self.start("web")
        self.wait_until(self.answers, seconds=60)

    def start_worker(self, **settings: str) -> None:
        self.worker = self.start("worker", **settings)

    def processes(self) -> list[psutil.Process]:
        """Every living process that works on this data folder."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def named(self, *words: str) -> list[psutil.Process]:
        """Our processes whose title has all the words, such as named("trainer", "job 3")."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if all(word in title for word in words):
                    found.append(process)
        return found

    def queue_heads(self) -> list[psutil.Process]:
        """The main process of the cluster that the worker runs now; none while it is replaced."""
        found = []
        for child in psutil.Process(self.worker.pid).children() if self.worker else []:
            with suppress(psutil.Error):  # one that was killed just now
                if "zygote" not in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def the(self, *words: str, seconds: float = 30) -> psutil.Process:
        return self.wait_until(lambda: self.named(*words), seconds=seconds)[0]

    def stop(self) -> None:
        """End everything, gently if it goes, and leave nothing behind."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and any(process.poll() is None for process in self._started):
            time.sleep(0.02)
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        for process in self._started:
            process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _is_ours(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return process.environ().get(MARK) == str(self.data)
        return False

    # REST.

    @property
    def token(self) -> str:
        return (self.data / "api-token").read_text().strip()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
            return answer.status == 200
        return False

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer, or its bytes where it is no JSON. Raises Answer for what is not 2xx."""
        data = None if body is None else json.dumps(body).encode()
        return self.send(method, path, data, "application/json")

    def send(self, method: str, path: str, data: bytes | None, media_type: str) -> Any:
        """A request whose body is written already, answered as request does."""
        headers = {"Authorization": f"Token {self.token}", "Content-Type": media_type}
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
                is_json = answer.headers.get_content_type() == "application/json"
                return json.loads(content) if is_json else content
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                raise Answer(error.code, json.loads(text)) from None
            except ValueError:
                raise Answer(error.code, {"text": text[:2000]}) from None

    def get(self, path: str) -> Any:
        return self.request("GET", f"/v1/training{path}")

    def post(self, path: str, body: Any = None) -> Any:
        return self.request("POST", f"/v1/training{path}", {} if body is None else body)

    def submit(
        self, recipe: str = "tiny", *, priority: int = 0, job_name: str = "a job", **config: Any
    ) -> int:
        if recipe != "shards":
            config.setdefault("device", "cpu")
        body = {"job_name": job_name, "recipe": recipe, "priority": priority, "config": config}
        return self.post("/jobs", body)["id"]

    def job(self, job: int) -> dict[str, Any]:
        return self.get(f"/jobs/{job}")

    def pause(self, job: int, at: str = "epoch") -> Any:
        return self.post(f"/jobs/{job}/pause", {"at": at})

    def verb(self, job: int, verb: str) -> Any:
        return self.post(f"/jobs/{job}/{verb}")

    def events(self, job: int) -> list[dict[str, Any]]:
        return self._all(f"/jobs/{job}/events?limit=1000")

    def metrics(self, job: int) -> list[dict[str, Any]]:
        return self.rows(
            'select step, epoch, "values", epoch_values from training_metric where job_id=? order by step',
            job,
        )

    def checkpoints(self, job: int) -> list[dict[str, Any]]:
        return self._all(f"/jobs/{job}/checkpoints")

    def final(self, job: int) -> dict[str, Any]:
        """The final checkpoint of a completed job."""
        found = [row for row in self.checkpoints(job) if "final" in row["kinds"]]
        assert len(found) == 1, found
        return found[0]

    def _all(self, path: str) -> list[dict[str, Any]]:
        """Every row of a list."""
        rows, following = [], f"/v1/training{path}"
        while following:
            page = self.request("GET", following)
            rows += page["results"]
            following = (page["next"] or "").removeprefix(self.url)
        return rows

    def add_superuser(self, name: str, password: str) -> None:
        """Somebody who can log in. Written into the database: a command would take seconds."""
        row = {
            "username": name, "password": PBKDF2PasswordHasher().encode(password, "salt", 1000),
            "is_superuser": True, "is_staff": True, "is_active": True,
            "first_name": "", "last_name": "", "email": "", "date_joined": "2026-01-01 00:00:00+00:00",
        }  # fmt: skip
        with self.database() as database:
            places = ", ".join("?" * len(row))
            database.execute(
                f"insert into auth_user ({', '.join(row)}) values ({places})", tuple(row.values())
            )

    # Waiting.

    def wait_until(
        self, asked: Callable[[], Any], *, seconds: float, about: Callable[[], str] | None = None
    ) -> Any:
        """The first true answer. Asks every 60 ms: asking costs the time of those who are asked."""
        deadline = time.monotonic() + seconds * PATIENCE
        while True:
            answer = asked()
            if answer:
                return answer
            if time.monotonic() > deadline:
                said = about() if about else ""
                raise TookTooLong(f"not within {seconds} s: {said}\n{self.log[-6000:]}")
            time.sleep(0.06)

    def wait_for(
        self, job: int, predicate: Callable[[dict[str, Any]], Any], *, seconds: float = 60
    ) -> dict[str, Any]:
        """The job as soon as the predicate holds for it."""
        seen: dict[str, Any] = {}

        def asked() -> dict[str, Any] | None:
            seen.update(self.job(job))
            return seen if predicate(seen) else None

        return self.wait_until(asked, seconds=seconds, about=lambda: f"{seen}\n{self._told(job)}")

    def wait_for_status(self, job: int, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        return self.wait_for(job, lambda seen: seen["status"] in statuses, seconds=seconds)

    def wait_for_step(self, job: int, step: int, *, seconds: float = 60) -> dict[str, Any]:
        return self.wait_for(job, lambda seen: seen["current_step"] >= step, seconds=seconds)

    def _told(self, job: int) -> str:
        return "\n".join(
            f"{event['seq']} {event['kind']}: {event['message']}" for event in self.events(job)[-20:]
        )

    # The database, read beside Django.

    @property
    def is_on_postgres(self) -> bool:
        return self._server is not None

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with self.database() as database:
            return [dict(row) for row in database.execute(query, values)]

    @contextmanager
    def database(self) -> Iterator[Any]:
        """A connection that takes `?` for values and gives rows by name."""
        if self._server is not None:
            with self._server.connect(self.environment["DATABASE_URL"]) as connection:
                yield postgres.Questions(connection)
            return
        connection = sqlite3.connect(self.data / "heimdall.sqlite3", timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def running(
    folder: Path,
    *,
    web: bool = True,
    worker: bool = True,
    server: postgres.Server | None = None,
    **settings: str,
) -> Iterator[Site]:
    """Start what is wanted on a new data folder under `folder`; end all of it at the end."""
    site = Site(folder, settings, server)
    try:
        if worker:
            site.start_worker()
        if web:
            site.start_web()
        yield site
    finally:
        site.stop()


@functools.cache
def prepared_data(server: postgres.Server | None = None) -> Path:
    """A data folder with a migrated database, the superuser and its token: made once, copied often."""
    if server is not None:
        return server.folder / "prepared"
    folder = Path(tempfile.mkdtemp(prefix="heimdall-prepared-")) / "data"
    prepare({"HEIMDALL_DATA_DIR": str(folder)})
    import atexit

    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    return folder


def prepare(settings: dict[str, str]) -> None:
    command = [sys.executable, "manage.py", "start", "--prepare-only"]
    environment = _clean_environment() | QUICK | settings
    subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120 * PATIENCE
    )


def _clean_environment() -> dict[str, str]:
    """Without the settings that the tests' own process was given."""
    unwanted = ("HEIMDALL_", "DJANGO_", "DATABASE_URL", "COV_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return kept | {"PYTHONPATH": str(ROOT)}  # where the tests' own recipes are


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
