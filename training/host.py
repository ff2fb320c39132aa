"""What the worker's processes on one host share beside the database: locks, marks, and who stands or falls with whom.

The kernel drops a lock when its holder dies, so nothing here has to be cleaned up after a kill -9.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from django.conf import settings


def folder() -> Path:
    """The host's own folder: hosts may share the data folder."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", settings.NODE_NAME) or "_"
    path = settings.DATA_DIR / "run" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


class HeldFile:
    """A locked file with its holder's pid in it. Free again the moment the holder is gone."""

    def __init__(self, path: Path):
        self.path = path
        self._handle: int | None = None

    def take(self) -> bool:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(5):
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.01)  # somebody may only be looking
        else:
            os.close(handle)
            return False
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        except OSError:  # a full disk; what stayed open would stay locked
            os.close(handle)
            raise
        self._handle = handle
        return True

    def is_in_place(self) -> bool:
        """Whether the name still leads to the file that is held here, and not to another one or to none."""
        if self._handle is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._handle), self.path.stat())
        except FileNotFoundError:
            return False

    def give_back(self) -> None:
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None

    def holder(self) -> int | None:
        """The pid of the process that holds the file now; 0 where it has not left its pid yet."""
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(handle, 20, 0).decode()
            return int(text) if text.isdigit() else 0
        finally:
            os.close(handle)
        return None


def guard() -> HeldFile:
    """Held by the one worker of this host."""
    return HeldFile(folder() / "worker.lock")


def slot_file(slot: int) -> HeldFile:
    return HeldFile(folder() / f"slot-{slot}.lock")


@contextmanager
def free_slot() -> Iterator[int | None]:
    """Hold one of the host's slots for an attempt; None where all are taken."""
    for slot in range(settings.SLOTS):
        held = slot_file(slot)
        if held.take():
            try:
                yield slot
            finally:
                held.give_back()
            return
    yield None


def supervisors() -> dict[int, int]:
    """Slot -> pid of the supervisor that holds it."""
    found = ((slot, slot_file(slot).holder()) for slot in range(settings.SLOTS))
    return {slot: pid for slot, pid in found if pid}


def answer_canary(number: int) -> None:
    """Leave word that the cluster of this host executed message `number`.

    It is written over the last one: on a full disk, a cluster that works must not seem dead.
    """
    handle = os.open(folder() / "canary", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(handle, f"{number:>20}".encode(), 0)
    finally:
        os.close(handle)


def canary_answer() -> int:
    with suppress(OSError, ValueError):
        return int((folder() / "canary").read_text())
    return 0


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


class Orders:
    """What a supervisor's process has been told by signals.

    SIGTERM: land at the next step; again: leave at once. SIGUSR1: the cluster is gone; an idle process leaves at
    once, a busy one finishes its attempt as long as the worker lives, and leaves then.
    """

    def __init__(self) -> None:
        self.busy = False
        self.drain = False
        self.orphaned = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._told_to_drain)
        signal.signal(signal.SIGUSR1, self._told_of_the_clusters_end)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            if self.orphaned:
                os._exit(0)

    def must_land(self) -> bool:
        """Whether the attempt has to end at the next step, whatever the job's own stop is."""
        if not self.drain and self.orphaned and guard().holder() is None:
            self.drain = True
        return self.drain

    def must_leave(self) -> bool:
        """Whether no further attempt may be begun."""
        return self.orphaned or self.must_land()

    def _told_to_drain(self, *_: object) -> None:
        if self.drain:
            os._exit(1)
        self.drain = True

    def _told_of_the_clusters_end(self, *_: object) -> None:
        self.orphaned = True
        if not self.busy:
            os._exit(0)


orders = Orders()
