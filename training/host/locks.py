"""Locks of the worker's processes on one host, and who holds them.

The kernel drops a lock when its holder dies, so nothing here has to be cleaned up after a kill -9.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings


def folder() -> Path:
    """The host's own folder: hosts may share the data folder."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", settings.NODE_NAME) or "_"
    path = settings.DATA_DIR / "run" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


class FileLock:
    """A locked file with its holder's pid in it. Free again the moment the holder is gone."""

    def __init__(self, path: Path):
        self.path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
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

    def release(self) -> None:
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None

    def leave_to_parent(self) -> None:
        """In a fork of the holder: what is inherited here would keep the file locked beyond the holder's death."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def holder(self) -> int | None:
        """The pid of the process that holds the file now; 0 where it has not written its pid yet."""
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


def worker_lock() -> FileLock:
    """Held by the one worker of this host."""
    return FileLock(folder() / "worker.lock")


def slot_lock(slot: int) -> FileLock:
    return FileLock(folder() / f"slot-{slot}.lock")


@contextmanager
def hold_free_slot() -> Iterator[int | None]:
    """Hold one of the host's slots for an attempt; None where all are taken."""
    for slot in range(settings.SLOTS):
        lock = slot_lock(slot)
        if lock.acquire():
            try:
                yield slot
            finally:
                lock.release()
            return
    yield None


def gang_lock() -> FileLock:
    """Held by the one supervisor of this host that waits for further slots: two would wait for each other."""
    return FileLock(folder() / "gang.lock")


@contextmanager
def hold_slots(
    slots: Iterable[int], *, seconds: float, give_up: Callable[[], bool]
) -> Iterator[dict[int, FileLock] | None]:
    """Hold these slots beside one's own, all or none: their locks, or None where some were not free in time.

    Whoever finds that another supervisor of the host waits for slots gets none, and is to leave its own to that one.
    """
    turn = gang_lock()
    if not turn.acquire():
        yield None
        return
    locks = {slot: slot_lock(slot) for slot in slots}
    try:
        try:
            is_held = _acquire_all(locks.values(), time.monotonic() + seconds, give_up)
        finally:
            turn.release()
        yield locks if is_held else None
    finally:
        for lock in locks.values():
            lock.release()


def _acquire_all(locks: Iterable[FileLock], deadline: float, give_up: Callable[[], bool]) -> bool:
    for lock in locks:
        while not lock.acquire():
            if time.monotonic() > deadline or give_up():
                return False
    return True


def supervisors() -> dict[int, int]:
    """Slot -> pid of the supervisor that holds it."""
    found = ((slot, slot_lock(slot).holder()) for slot in range(settings.SLOTS))
    return {slot: pid for slot, pid in found if pid}
