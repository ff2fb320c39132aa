"""The second start of what `make run` runs, to its first answer, and the memory of each idle process, as JSON."""

from __future__ import annotations

import json
import re
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.running import Site

FORK_SERVERS = 3  # of two slots and of what looks after the host
SETTLED = 6.0  # seconds after which nothing is going on any more


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), {"HEIMDALL_SLOTS": "2"})  # its database is there: this is no first start
        try:
            began = time.monotonic()
            site.start("start")
            while not site.answers():
                time.sleep(0.01)
            seconds = time.monotonic() - began
            while len(site.named("heimdall fork server")) < FORK_SERVERS:
                time.sleep(0.1)
            time.sleep(SETTLED)
            memory = _memory(site.processes())
            files = sum(_megabytes(process, "Pss_File") for process in site.processes())
        finally:
            site.stop()
    print(json.dumps({"seconds": seconds, "memory": dict(sorted(memory.items())), "files": files}))


def _memory(processes: list[psutil.Process]) -> dict[str, float]:
    """Megabytes by the name of a process, a page that several share counted once in all."""
    found: dict[str, float] = {}
    for process in processes:
        found[_name(process)] = found.get(_name(process), 0.0) + _megabytes(process, "Pss")
    return found


def _megabytes(process: psutil.Process, kind: str) -> float:
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) * 1024 / 1e6


def _name(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    titles = re.search(r"heimdall [a-z0-9 ]+|qcluster[a-z ]*|manage.py \w+", words)
    return titles[0].strip() if titles else words[-40:]


if __name__ == "__main__":
    main()
