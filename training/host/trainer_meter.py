"""What trainers use of this machine, from the kernel and the driver: cheap enough to be asked every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from training import hardware

_PROC = Path("/proc")


@dataclass(frozen=True)
class _Seen:
    """Counters of a trainer's processes together, when they were read."""

    at: float
    cpu_seconds: float
    read_bytes: float
    written_bytes: float
    memory: float


@dataclass
class TrainerMeter:
    """Rates are the mean since the trainer was last read, so the first reading of one has none."""

    _before: dict[int, _Seen] = field(default_factory=dict)

    def read(self, trainers: Mapping[int, int | str | None]) -> dict[int, dict[str, Any]]:
        """By the trainer's pid, for those that run: CPU in percent of a core, resident bytes, bytes a second from and
        to disks, and of its GPU (a number or a UUID) percent and bytes. What cannot be known is None."""
        seen = {pid: one for pid in trainers if (one := _read(pid)) is not None}
        has_gpu = any(gpu is not None for gpu in trainers.values())
        gpus = {gpu["known_by"]: gpu for gpu in hardware.gpus()} if has_gpu else {}
        found = {pid: self._since(pid, now) | _gpu(gpus.get(trainers[pid])) for pid, now in seen.items()}
        self._before = seen
        return found

    def _since(self, pid: int, now: _Seen) -> dict[str, Any]:
        before = self._before.get(pid)
        rates: dict[str, float | None] = {"cpu_percent": None, "read_rate": None, "write_rate": None}
        if before is not None and now.at > before.at:
            seconds = now.at - before.at
            rates = {
                "cpu_percent": max(100 * (now.cpu_seconds - before.cpu_seconds) / seconds, 0.0),
                "read_rate": max((now.read_bytes - before.read_bytes) / seconds, 0.0),
                "write_rate": max((now.written_bytes - before.written_bytes) / seconds, 0.0),
            }
        return rates | {"memory": now.memory}


def _gpu(gpu: dict[str, Any] | None) -> dict[str, Any]:
    if gpu is None:
        return {"gpu_percent": None, "gpu_memory": None}
    return {"gpu_percent": gpu["busy_percent"], "gpu_memory": gpu["memory_total"] - gpu["memory_free"]}


def _read(pid: int) -> _Seen | None:
    """None where the trainer is gone. A child that ends between two readings takes its counters along."""
    cpu = read = written = memory = 0.0
    for each in _family(pid):
        with suppress(psutil.Error):
            process = psutil.Process(each)
            with process.oneshot():
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_info().rss
            with suppress(psutil.AccessDenied, AttributeError):
                counters = process.io_counters()
                read, written = read + counters.read_bytes, written + counters.write_bytes
    return _Seen(time.monotonic(), cpu, read, written, memory) if memory else None


def _family(pid: int) -> Iterator[int]:
    """The process and its descendants, by the kernel's own lists: no walk over all processes of the machine."""
    yield pid
    with suppress(OSError, ValueError):
        for task in (_PROC / str(pid) / "task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
