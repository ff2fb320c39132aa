"""Processes of this host: which of them live."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil


def started_at(pid: int) -> float:
    """When the process started: tells a reused pid from the old one. 0 if there is none.

    On Linux in seconds since the boot, for Unix time moves whenever the host's clock is set. (What is of an earlier
    boot is told by the boot's id.)
    """
    if sys.platform == "linux":
        with suppress(OSError):
            after_the_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
            return int(after_the_name.split()[19]) / os.sysconf("SC_CLK_TCK")
        return 0.0
    with suppress(psutil.Error):
        return psutil.Process(pid).create_time()
    return 0.0


def is_running(pid: int) -> bool:
    """Whether there is such a process; a zombie does not run."""
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def is_alive(pid: int, since: float) -> bool:
    """Whether this very process runs, and no later one with its number."""
    return is_running(pid) and abs(started_at(pid) - since) < 1
