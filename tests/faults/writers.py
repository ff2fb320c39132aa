"""Processes that write to one SQLite file as supervisors and web servers do: is it ever "locked"?

`python -m tests.faults.writers --seconds 60` starts four of them on a database of their own: each claims a job, beats
with metrics and log lines, records events, and asks and withdraws pauses of the others' jobs. With `--naive` they use
a plain sqlite3 connection as Python opens it. Prints transactions and errors; exits with 1 if there was an error.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.running import prepared_data

ROOT = Path(__file__).parents[2]
WRITERS = 4
LOCKED = "locked"


def write(seconds: float, number: int) -> dict[str, int]:
    """One writer's life, through the real verbs."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.db import OperationalError

    from training import services
    from training.errors import TransitionRefused
    from training.models import TrainingJob

    user, node = User.objects.get(), services.register_node()
    attempt = services.claim(node, slot=number, pid=os.getpid())
    assert attempt is not None
    done = {"transactions": 0, "locked": 0, "other": 0}
    step, until = 0, time.monotonic() + seconds
    jobs = list(TrainingJob.objects.order_by("pk"))

    def beat() -> None:
        rows = [{"step": step, "epoch": 1, "loss": 1 / step, "learning_rate": 0.1}]
        services.beat(attempt, services.Report(steps=rows, log=f"step {step}\n"))

    def tell() -> None:
        services.note(attempt, "note", f"writer {number} at step {step}")

    def ask() -> None:
        other = jobs[(number + step) % len(jobs)]
        try:
            services.pause(other, by=user, at="epoch")
            services.resume(other, by=user)
        except TransitionRefused:
            pass

    while time.monotonic() < until:
        step += 1
        for act in (beat, beat, tell, ask):
            try:
                act()
                done["transactions"] += 2 if act is ask else 1
            except OperationalError as error:
                done["locked" if LOCKED in str(error) else "other"] += 1
    return done


def write_naively(seconds: float, path: str) -> dict[str, int]:
    done = {"transactions": 0, "locked": 0, "other": 0}
    database = sqlite3.connect(path, timeout=0.05)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with database:
                (count,) = database.execute("select count(*) from naive").fetchone()
                database.execute("insert into naive values (?)", (count,))
            done["transactions"] += 1
        except sqlite3.OperationalError:
            done["locked"] += 1
    return done


def prepare(folder: Path) -> dict[str, str]:
    """A migrated database with a job for each writer; the environment that leads to it."""
    settings = {"HEIMDALL_DATA_DIR": str(folder), "HEIMDALL_RECIPES": "tests.support.recipes.tiny",
                "HEIMDALL_SLOTS": str(WRITERS),
                "DJANGO_SETTINGS_MODULE": "heimdall.site.settings"}  # fmt: skip
    environment = os.environ | settings
    environment.pop("DATABASE_URL", None)
    script = (
        "from django.contrib.auth.models import User; from training import services;"
        "user = User.objects.get();"
        f"[services.submit(by=user, job_name='job', recipe='tiny', config={{}}) for _ in range({WRITERS})]"
    )
    shutil.copytree(prepared_data(), folder, dirs_exist_ok=True)
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", script]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)
    return environment


def run(seconds: float, folder: Path, *, naive: bool = False) -> dict[str, int]:
    environment = dict(os.environ) if naive else prepare(folder)
    if naive:
        database = sqlite3.connect(folder / "naive.sqlite3")
        database.execute("create table naive (number integer)")
        database.close()
    command = [sys.executable, "-m", "tests.faults.writers", "--seconds", str(seconds)]
    extra = [["--be", str(number), *(["--path", str(folder / "naive.sqlite3")] if naive else [])]
             for number in range(WRITERS)]  # fmt: skip
    writers = [
        subprocess.Popen([*command, *more], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        for more in extra
    ]
    found = [json.loads(writer.communicate(timeout=seconds + 120)[0]) for writer in writers]
    assert not any(writer.returncode for writer in writers)
    return {name: sum(one[name] for one in found) for name in found[0]}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--be", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be is not None:
        done = (
            write_naively(options.seconds, options.path)
            if options.path
            else write(options.seconds, options.be)
        )
        print(json.dumps(done))
        return 0
    with tempfile.TemporaryDirectory(prefix="heimdall-writers-") as folder:
        found = run(options.seconds, Path(folder), naive=options.naive)
    print(
        f"{WRITERS} writers, {options.seconds:g} s: {found['transactions']} transactions, "
        f'{found["locked"]} times "database is locked", {found["other"]} other errors'
    )
    return 1 if found["locked"] + found["other"] else 0


if __name__ == "__main__":
    sys.exit(main())
