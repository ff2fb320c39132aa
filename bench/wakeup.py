"""Wake-up latency: from a committed submission to the claim, while the worker is idle; and what idling costs.

`python -m bench.wakeup` prints it for SQLite and PostgreSQL, with stock django-q2 on the same database beside it: its
ORM broker as it comes, from a committed `async_task` to the first line of the task. Ours counts until the claim is
committed, which is more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATABASES = ("sqlite", "postgres")
TAKEN = "HEIMDALL_BENCH_TAKEN"  # a file into which the stock task writes when it began
PATIENCE = 60.0
IDLE_SECONDS = 5.0


def measure(database: str, *, samples: int = 40) -> dict[str, Any]:
    """Milliseconds and percent of one core, for Heimdall and for stock django-q2, on `sqlite` or `postgres`."""
    with place(database) as environment:
        ours = _inside("heimdall", samples, environment)
        stock = _inside(
            "stock", samples, environment | {"DJANGO_SETTINGS_MODULE": "bench.stock_queue_settings"}
        )
    return {"database": database, "samples": samples, "heimdall": ours, "stock": stock}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["inside"]:
        print(json.dumps({"heimdall": _ours, "stock": _stock}[arguments[1]](int(arguments[2]))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("databases", nargs="*", metavar="DATABASE", help=f"some of: {', '.join(DATABASES)}")
    databases = parser.parse_args(arguments).databases
    if unknown := set(databases) - set(DATABASES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for database in databases or DATABASES:
        found = measure(database)
        for name in ("heimdall", "stock"):
            row = found[name]
            print(
                f"{database:9} {name:9} p50 {row['p50_ms']:7.1f} ms   p95 {row['p95_ms']:7.1f} ms   "
                f"idle {row['idle_percent']:5.2f} % of a core"
            )


def taken(number: int) -> None:
    """The stock task: when it began, by the clock that all processes of a host share."""
    now = time.monotonic()
    with open(os.environ[TAKEN], "a") as file:
        file.write(f"{number} {now}\n")


@contextlib.contextmanager
def place(database: str) -> Iterator[dict[str, str]]:
    """A new database and data folder; commits wait for the disk, as they do in earnest."""
    with tempfile.TemporaryDirectory(prefix="wakeup-") as folder, contextlib.ExitStack() as stack:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDALL_")}
        environment |= {
            "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
            "HEIMDALL_DATA_DIR": folder,
            "HEIMDALL_LOG_LEVEL": "ERROR",
            "HEIMDALL_SLOTS": "1",
            "PYTHONPATH": str(ROOT),
            TAKEN: str(Path(folder) / "taken"),
        }
        environment.pop("DATABASE_URL", None)
        if database == "postgres":
            from tests.support import postgres

            server = stack.enter_context(postgres.fresh(durable=True))
            environment["DATABASE_URL"] = server.make_database("wakeup")
        yield environment


def _inside(what: str, samples: int, environment: dict[str, str]) -> dict[str, float]:
    """In a process of its own: a process has one database and one queue."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.wakeup", "inside", what, str(samples)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _ours(samples: int) -> dict[str, float]:
    os.environ["HEIMDALL_RECIPES"] = "tests.support.recipes.tiny"
    owner = _prepare()
    from django.db import connection

    from training import services
    from training.models import TrainingJob
    from training.queue import commits

    listener = commits.listen_to(commits.JOBS, poll_seconds=0.0002)

    def is_claimed(job: TrainingJob) -> bool:
        with connection.cursor() as cursor:  # the ORM would take a part of what is measured
            cursor.execute("SELECT 1 FROM training_attempt WHERE job_id = %s", [job.pk])
            return cursor.fetchone() is not None

    def once(number: int) -> float:
        job = services.submit(by=owner, job_name=f"job {number}", recipe="tiny", config={}).job
        queued = time.monotonic()
        while not is_claimed(job):
            listener.wait(0.1)
            _in_time(queued)
        claimed = time.monotonic()
        # The worker does not know this recipe: the job fails as soon as it is looked at, and the worker is idle.
        while TrainingJob.objects.filter(pk=job.pk, completed_at=None).exists():
            listener.wait(0.1)
            _in_time(queued)
        return claimed - queued

    with _process("manage.py", "worker", HEIMDALL_RECIPES="") as worker:
        return _measured(once, samples, worker)


def _stock(samples: int) -> dict[str, float]:
    _prepare()
    from django_q.tasks import async_task

    def once(number: int) -> float:
        async_task("bench.wakeup.taken", number)
        queued = time.monotonic()
        while not (moments := _moments(number)):
            time.sleep(0.001)
            _in_time(queued)
        return moments[0] - queued

    with _process("-m", "django", "qcluster") as cluster:
        return _measured(once, samples, cluster)


def _prepare() -> Any:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from heimdall.site import database

    database.keep_connections("bench")
    call_command("migrate", verbosity=0)
    return User.objects.get_or_create(username="bench")[0]


def _measured(
    once: Callable[[int], float], samples: int, process: subprocess.Popen[bytes]
) -> dict[str, float]:
    chance = random.Random(0)
    for number in range(3):  # the first wait for the start
        once(-1 - number)
    time.sleep(1)
    before = _cpu_seconds(process)
    time.sleep(IDLE_SECONDS)
    idle = (_cpu_seconds(process) - before) / IDLE_SECONDS
    times = []
    for number in range(samples):
        time.sleep(chance.uniform(0.05, 0.35))  # at any moment of a poll
        times.append(once(number) * 1000)
    times.sort()
    return {
        "p50_ms": statistics.median(times),
        "p95_ms": times[min(int(0.95 * samples), samples - 1)],
        "idle_percent": 100 * idle,
    }


@contextlib.contextmanager
def _process(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *command],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Of the process and all below it."""
    import psutil

    root = psutil.Process(process.pid)
    times = [one.cpu_times() for one in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _moments(number: int) -> list[float]:
    with contextlib.suppress(FileNotFoundError):
        rows = [line.split() for line in Path(os.environ[TAKEN]).read_text().splitlines()]
        return [float(moment) for one, moment in rows if int(one) == number]
    return []


def _in_time(since: float) -> None:
    if time.monotonic() - since > PATIENCE:
        raise RuntimeError("The worker took no job.")


if __name__ == "__main__":
    main(sys.argv[1:])
