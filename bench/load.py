"""What one database and one web process carry: many jobs, many metrics, many sockets. `make load`

    python -m bench.load --jobs 100000 --metrics 5000000 --write

fills a new database of each kind, asks a real web server for the pages that people look at all day, then opens
sockets and writes events. Clients, server and database share this machine. With --write the tables replace those
between the markers of docs/scaling.md.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "scaling.md"
STEPS_A_JOB = 10_000
STEPS_AN_EPOCH = 1_000
PING = 9  # of RFC 6455
WARM_UP = 3  # requests that do not count
WATCHED_JOBS = 20  # the sockets are spread over these
PATIENCE = float(os.environ.get("HEIMDALL_TEST_PATIENCE", "1"))


def main() -> None:
    given = _arguments()
    if given.attempts:
        print(json.dumps(_write_events(given.attempts, given.rate, given.seconds)))
        return
    if given.one:
        print(json.dumps(Load(given).run()))
        return
    for kind in given.databases.split(","):
        found = _in_a_process(kind, given)
        text = table(found)
        print(f"\n{text}")
        if given.write:
            write_down(kind, text)


class Load:
    """One database of one kind, filled and asked. In a process of its own: settings are read once."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given

    def run(self) -> dict[str, Any]:
        from tests.live.server import RECIPES, Server

        found: dict[str, Any] = {
            "database": self.given.one,
            "jobs": self.given.jobs,
            "metrics": self.given.metrics,
        }
        with tempfile.TemporaryDirectory() as folder, _database(self.given.one, Path(folder)) as url:
            os.environ |= {
                "HEIMDALL_DATA_DIR": folder,
                "HEIMDALL_RECIPES": RECIPES,
                "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
            } | ({"DATABASE_URL": url} if url else {})
            from tests.live import writer  # sets Django up

            writer.migrate()
            began = time.monotonic()
            fill(self.given.jobs, self.given.metrics)
            found["fill_seconds"] = round(time.monotonic() - began, 1)
            login = writer.person(name="load", superuser=True)
            server = Server(Path(folder))
            server.environment |= {"DATABASE_URL": url} if url else {}
            try:
                server.start()
                found["pages"] = ask_pages(server.port, login, self.given.asks)
                found["memory_mb"] = round(server.memory_bytes() / 1e6)
                found["sockets"] = asyncio.run(self._sockets(server, writer, login))
                found["memory_with_sockets_mb"] = round(server.memory_bytes() / 1e6)
            finally:
                server.kill()
        return found

    async def _sockets(self, server: Any, writer: Any, login: dict[str, str]) -> dict[str, Any]:
        """Every event at every socket that watches its job: when it was there, and whether it came at all."""
        given = self.given
        attempts = await asyncio.to_thread(_running_attempts, writer, login["name"])
        sockets = await _open(server, [attempt.job_id for attempt in attempts], given.sockets, login["token"])
        # In a process of its own: here it would wait for the clients.
        committed = await asyncio.to_thread(self._write, [attempt.pk for attempt in attempts])
        deadline = time.monotonic() + 60 * PATIENCE
        delays, lost = _delays(sockets, committed)
        while lost and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            delays, lost = _delays(sockets, committed)
        first, last = committed[0][2], committed[-1][2]
        return {
            "sockets": given.sockets,
            "events": len(committed),
            "events_a_second": round((len(committed) - 1) / max(last - first, 1e-9), 1),
            "p50_ms": round(1000 * statistics.median(delays), 1) if delays else None,
            "p99_ms": round(1000 * _quantile(delays, 0.99), 1) if delays else None,
            "max_ms": round(1000 * max(delays), 1) if delays else None,
            "deliveries": len(delays),
            "lost": lost,
        }

    def _write(self, attempts: list[int]) -> list[tuple[int, int, float]]:
        command = [sys.executable, "-m", "bench.load", "--attempts", *map(str, attempts)]
        command += ["--rate", str(self.given.rate), "--seconds", str(self.given.seconds)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


def fill(jobs: int, metrics: int) -> None:
    """Copies of one job and of its curve, made by the database itself: no Python for each row."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.db.models.functions import Now

    from training.models import Attempt, Event, Metric, TrainingJob

    people = [User.objects.create(username=f"person-{number}").pk for number in range(3)]
    start = TrainingJob.objects.create(
        job_name="a job", recipe="tiny", owner_id=people[0], status="completed", total_epochs=10,
        current_epoch=10, current_step=STEPS_A_JOB, total_steps=STEPS_A_JOB, attempt=1, event_seq=2, best_epoch=9,
        best_val_loss=0.5, train_loss=0.4, val_loss=0.5, completed_at=Now(), started_at=Now(),
    )  # fmt: skip
    attempt = Attempt.objects.create(job=start, number=1, node_name="a", outcome="complete", ended_at=Now())
    event = Event.objects.create(
        job=start, seq=1, kind="submit", message="Submitted.", actor="x", status="queued"
    )
    curve = Metric.objects.create(
        job=start,
        step=1,
        epoch=1,
        attempt=1,
        values={"loss": 0.5, "learning_rate": 0.0003, "grad_norm": 1.25},
    )
    others = (
        "SELECT generate_series(%s, %s) AS i"
        if connection.vendor == "postgresql"
        else "WITH RECURSIVE n(i) AS (SELECT %s UNION ALL SELECT i + 1 FROM n WHERE i < %s) SELECT i FROM n"
    )
    status = (
        "CASE WHEN i %% 10 < 7 THEN 'completed' WHEN i %% 10 < 9 THEN 'failed'"
        " WHEN i %% 1000 = 9 THEN 'queued' ELSE 'cancelled' END"
    )
    owner = f"CASE i %% 3 WHEN 0 THEN {people[0]} WHEN 1 THEN {people[1]} ELSE {people[2]} END"
    last = start.pk + jobs - 1
    _copy(start, others, (start.pk + 1, last), id="i", job_name="'job ' || i", status=status, owner_id=owner)
    _copy(attempt, others, (start.pk + 1, last), id=None, job_id="i")
    _copy(event, others, (start.pk + 1, last), id=None, job_id="i")
    steps = min(STEPS_A_JOB, metrics)
    for job in range(max(metrics // STEPS_A_JOB, 1)):
        epoch = f"(i - 1) / {STEPS_AN_EPOCH} + 1"
        as_json = "jsonb" if connection.vendor == "postgresql" else "text"
        closed = f"CASE WHEN i %% {STEPS_AN_EPOCH} = 0 THEN CAST('{{\"val_loss\": 0.5}}' AS {as_json}) END"
        first = 2 if job == 0 else 1
        _copy(
            curve, others, (first, steps),
            id=None, job_id=str(start.pk + job), step="i", epoch=epoch, epoch_values=closed,
        )  # fmt: skip
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT setval(pg_get_serial_sequence('training_trainingjob', 'id'), %s)", [last])
        cursor.execute("ANALYZE")


def _copy(row: Any, others: str, bounds: tuple[int, int], **changes: str | None) -> None:
    """INSERT ... SELECT of the row once for each i, with some columns changed; a None column is left out."""
    from django.db import connection

    quote = connection.ops.quote_name
    columns = [
        field.column for field in row._meta.concrete_fields if changes.get(field.column, "") is not None
    ]
    values = [changes.get(column) or f"t.{quote(column)}" for column in columns]
    name = quote(row._meta.db_table)
    statement = (
        f"INSERT INTO {name} ({', '.join(map(quote, columns))}) SELECT {', '.join(values)}"
        f" FROM {name} t, ({others}) AS o WHERE t.id = {row.pk}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, bounds)


def ask_pages(port: int, login: dict[str, str], asks: int) -> dict[str, dict[str, float]]:
    """Milliseconds until the whole answer was there, one request after the other on one connection."""
    token = {"Authorization": f"Token {login['token']}"}
    session = {"Cookie": f"heimdall_session={login['session']}"}
    first = _first_job()
    pages = {
        "list, REST": ("/v1/training/jobs", token),
        "list, page of HTML": ("/", session),
        "filter by status, REST": ("/v1/training/jobs?status=failed", token),
        "filter by status, page of HTML": ("/?status=failed", session),
        "job, REST": (f"/v1/training/jobs/{first}", token),
        "job, page of HTML": (f"/jobs/{first}/", session),
        "metrics of a job, 200 rows": (f"/v1/training/jobs/{first}/metrics?after=5000", token),
        "queue, page of HTML": ("/queue/", session),
        "/metrics": ("/metrics", session | token),
    }
    return {name: _ask(port, path, headers, asks) for name, (path, headers) in pages.items()}


def _ask(port: int, path: str, headers: dict[str, str], asks: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120 * PATIENCE)
    times = []
    for number in range(asks + WARM_UP):
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}")
        if number >= WARM_UP:
            times.append(time.perf_counter() - began)
    connection.close()
    return {
        "p50_ms": round(1000 * statistics.median(times), 1),
        "p95_ms": round(1000 * _quantile(times, 0.95), 1),
    }


def _watcher(request: bytes) -> Any:
    """A socket that answers pings: the server closes one that is silent."""
    from tests.live.measure import Socket

    class Watcher(Socket):
        _unread, _is_open = b"", False

        def connection_made(self, transport: Any) -> None:
            self._transport = transport
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._unread += data
            if not self._is_open:
                head, end, self._unread = self._unread.partition(b"\r\n\r\n")
                if not end:
                    self._unread = head
                    return
                self._is_open = True
            while (frame := _first_frame(self._unread)) is not None:
                kind, payload, self._unread = frame
                if kind == PING:
                    self._transport.write(bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    return Watcher(request)


def _first_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Kind and payload of the frame at the beginning, and what follows; None where it is not whole yet."""
    if len(data) < 2:
        return None
    size, start = data[1] & 127, 2
    if size > 125:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start]) if len(data) >= start else len(data)
    if len(data) < start + size:
        return None
    return data[0] & 15, data[start : start + size], data[start + size :]


async def _open(server: Any, jobs: list[int], count: int, token: str) -> list[tuple[int, Any]]:
    from tests.live.measure import _request

    loop, found = asyncio.get_running_loop(), []
    for number in range(count):
        job = jobs[number % len(jobs)]
        make: Callable[[], Any] = lambda job=job: _watcher(_request(server, f"/ws/training/{job}/", token))  # noqa: E731
        _, socket = await loop.create_connection(make, "127.0.0.1", server.port)
        found.append((job, socket))
    await asyncio.wait_for(asyncio.gather(*(socket.opened for _, socket in found)), 120 * PATIENCE)
    return found


def _running_attempts(writer: Any, owner: str) -> list[Any]:
    jobs = [writer.submit(by=owner, name=f"watched {number}") for number in range(WATCHED_JOBS)]
    for job in jobs:
        writer.claim(job=job)
    return [writer._attempt(job) for job in jobs]


def _write_events(
    numbers_of_attempts: list[int], rate: float, seconds: float
) -> list[tuple[int, int, float]]:
    """So many events a second, in turn; job, number of the event, and when it was committed."""
    import django

    django.setup()
    from training import services
    from training.models import Attempt, TrainingJob

    attempts = list(Attempt.objects.select_related("job").filter(pk__in=numbers_of_attempts))
    numbers = dict(
        TrainingJob.objects.values_list("pk", "event_seq").filter(pk__in=[one.job_id for one in attempts])
    )
    committed, began = [], time.monotonic()
    for number in range(int(rate * seconds)):
        attempt = attempts[number % len(attempts)]
        time.sleep(max(began + number / rate - time.monotonic(), 0))
        services.note(attempt, "note", f"note {number}")
        numbers[attempt.job_id] += 1
        committed.append((attempt.job_id, numbers[attempt.job_id], time.monotonic()))
    return committed


def _delays(
    sockets: list[tuple[int, Any]], committed: list[tuple[int, int, float]]
) -> tuple[list[float], int]:
    """How late each event was at each socket of its job, and how many are missing."""
    by_job: dict[int, list[tuple[int, float]]] = {}
    for job, seq, moment in committed:
        by_job.setdefault(job, []).append((seq, moment))
    delays, lost = [], 0
    for job, socket in sockets:
        seen = socket.seen()
        for seq, moment in by_job.get(job, []):
            if seq in seen:
                delays.append(max(seen[seq] - moment, 0.0))
            else:
                lost += 1
    return delays, lost


def _first_job() -> int:
    from training.models import TrainingJob

    return TrainingJob.objects.order_by("pk").values_list("pk", flat=True)[0]


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    """A new database; its DATABASE_URL, or empty for SQLite in the data folder."""
    if kind == "sqlite":
        yield ""
        return
    from tests.support import postgres

    with postgres.fresh(durable=True) as server:
        yield server.make_database("load")


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def table(found: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    sockets = found["sockets"]
    rows = [
        f"{found['database'].capitalize()}: {found['jobs']:,} jobs and {found['metrics']:,} metric rows, filled in "
        f"{found['fill_seconds']:.0f} s; {os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        "| request, one after the other | p50, ms | p95, ms |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {page['p50_ms']} | {page['p95_ms']} |" for name, page in found["pages"].items()),
        "",
        "| live | |",
        "| --- | ---: |",
        f"| sockets on one web process | {sockets['sockets']} |",
        f"| events a second | {sockets['events_a_second']} |",
        f"| delay from the commit to a socket: p50, p99, longest, ms | {sockets['p50_ms']}, {sockets['p99_ms']}, "
        f"{sockets['max_ms']} |",
        f"| delivered, lost | {sockets['deliveries']:,}, {sockets['lost']} |",
        f"| memory of the web process before and with the sockets, MB | {found['memory_mb']}, "
        f"{found['memory_with_sockets_mb']} |",
    ]
    return "\n".join(rows)


def write_down(kind: str, text: str, document: Path = DOCUMENT) -> None:
    """Put the table between its markers."""
    place = re.compile(rf"(<!-- load {kind} -->\n).*?(\n<!-- end of load {kind} -->)", re.DOTALL)
    old = document.read_text()
    if not place.search(old):
        raise SystemExit(f"{document} has no place for {kind}")
    document.write_text(place.sub(lambda found: f"{found[1]}{text}{found[2]}", old))


def _in_a_process(kind: str, given: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.load", "--one", kind, "--jobs", str(given.jobs)]
    command += ["--metrics", str(given.metrics), "--sockets", str(given.sockets), "--asks", str(given.asks)]
    command += ["--rate", str(given.rate), "--seconds", str(given.seconds)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--metrics", type=int, default=5_000_000)
    parser.add_argument("--asks", type=int, default=60, help="requests of each page")
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--rate", type=float, default=100.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of events")
    parser.add_argument("--databases", default="postgres,sqlite")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    parser.add_argument("--attempts", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=["postgres", "sqlite"], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
