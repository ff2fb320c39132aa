"""A real web server and a real worker: how long a pause and a start take, of a job with one device or with several.

Two jobs take turns on all slots of the worker. One is paused, so the other is claimed; then the paused one is
queued again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.running import Site, running

STEP_SECONDS = 0.002


def take_turns(rounds: int, devices: int = 1) -> dict[str, list[float]]:
    """Milliseconds: `pause` from its commit to the next claim, `start` from a claim to the first step."""
    slots = {"HEIMDALL_SLOTS": str(devices)}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), **slots) as site:
        config = {"epochs": 1000, "samples": 100_000, "step_seconds": STEP_SECONDS}
        if devices > 1:
            config |= {"devices": devices}
        now, other = (site.submit(job_name=name, **config) for name in ("one", "two"))
        for _ in range(rounds):
            site.wait_for(now, lambda job: job["status"] == "running" and job["phase"] == "training")
            time.sleep(0.4)
            site.pause(now, at="step")
            site.wait_for_status(other, "running")
            site.wait_for_status(now, "paused")
            site.verb(now, "resume")
            now, other = other, now
        time.sleep(1)
        return {"pause": _pauses(site), "start": _starts(site)}


def _pauses(site: Site) -> list[float]:
    """The slot is free when its next holder begins; all times are the database's."""
    asked = [_moment(row["created_at"]) for row in site.rows(
        "select created_at from training_event where kind='pause' order by created_at"
    )]  # fmt: skip
    claimed = [_moment(row["started_at"]) for row in site.rows(
        "select started_at from training_attempt order by started_at"
    )]  # fmt: skip
    return [1000 * (min(moment for moment in claimed if moment > when) - when) for when in asked]


def _starts(site: Site) -> list[float]:
    rows = site.rows("select started_at, first_step_at from training_attempt where first_step_at is not null")
    return [1000 * (_moment(row["first_step_at"]) - _moment(row["started_at"])) for row in rows]


def _moment(text: Any) -> float:
    return datetime.fromisoformat(str(text)).timestamp()


if __name__ == "__main__":
    print(json.dumps(take_turns(*map(int, sys.argv[1:])) | {"step_ms": 1000 * STEP_SECONDS}))
