"""What the command `heimdall` costs at its start, and how soon an event is in a program that follows a job.

Prints JSON: medians in milliseconds, and of processes the time of the processor, which a busy machine changes less.
`request` is the list that `ls` asks for, asked by a client that is running already, so the rest of `ls` is what the
command itself takes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from heimdall import Client
from heimdall.client import profiles
from tests.support.running import running

STARTS, EVENTS, SUBMISSIONS = 15, 40, 7
COMMAND = [sys.executable, "-m", "heimdall.client.command.main"]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="heimdall-bench-") as name:
        os.environ |= {"HEIMDALL_CONFIG_DIR": f"{name}/config", "HEIMDALL_KEYRING": "0"}
        (Path(name) / "site").mkdir()
        with running(Path(name) / "site", worker=False) as site:
            profiles.keep(profiles.Profile(site.url, site.token))
            with Client() as client:
                jobs = [client.submit("tiny", pool="nowhere", device="cpu") for _ in range(20)]
                found = {
                    "help": started(*COMMAND, "--help"),
                    "ls": started(*COMMAND, "ls"),
                    "typer": started(sys.executable, "-m", "typer", "--help"),
                    "request": _median([_timed(lambda: list(client.jobs(most=20))) for _ in range(STARTS)]),
                    "event": events(client, jobs[0]),
                }
        (Path(name) / "worker").mkdir()
        with (
            running(Path(name) / "worker", HEIMDALL_SLOTS="1") as site,
            Client(site.url, token=site.token) as client,
        ):
            found["first_step"] = _median([first_step(client) for _ in range(SUBMISSIONS + 1)][1:])
    print(json.dumps(found))


def started(*command: str) -> tuple[float, float]:
    """From the start of a process to its end, and its time of the processor."""
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

    run()  # the first one fills the caches of the disk
    before = os.times()
    times = [_timed(run) for _ in range(STARTS)]
    after = os.times()
    spent = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return _median(times), round(spent / STARTS * 1000, 1)


def first_step(client: Client) -> float:
    """From the call that submits to the first step in the program that follows the job, which is over afterwards."""
    began = time.perf_counter()
    job = client.submit("tiny", device="cpu", epochs=1)
    for _ in job.follow(kinds=["step"]):
        break
    found = (time.perf_counter() - began) * 1000
    job.wait(timeout=60)
    return found


def events(client: Client, job) -> float:
    """From asking for a change to the line of the program that follows the job: two ways through the server."""
    seen = threading.Semaphore(0)

    def follow() -> None:
        for update in job.follow(kinds=["job", "event"]):
            if update.kind == "event" or update.data["event_seq"] == 1:
                seen.release()

    follower = threading.Thread(target=follow)
    follower.start()
    seen.acquire()
    times = []
    for number in range(EVENTS):
        began = time.perf_counter()
        client.job(job.id).change(description=f"event {number}")
        if not seen.acquire(timeout=30):
            raise RuntimeError("an event did not come")
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.05)
    job.cancel()
    follower.join()
    return _median(times)


def _timed(act) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 1)


if __name__ == "__main__":
    main()
