"""What this machine is made of and how busy it is: asked from the kernel and the driver, never from CUDA or torch.

What cannot be measured is left out. A machine without a GPU has no GPUs, not idle ones.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pynvml
from django.conf import settings

_CGROUP = Path("/sys/fs/cgroup")


def devices() -> list[dict[str, str]]:
    """The device of each slot, and what it is called. Slots beyond the last GPU compute on the CPU."""
    names = {gpu["index"]: gpu["name"] for gpu in gpus()}
    found = []
    for slot in range(settings.SLOTS):
        index = _number(slot) if slot < len(settings.GPUS) else None
        on_cpu = {"device": "cpu", "name": processor()}
        found.append(
            on_cpu if index is None else {"device": f"cuda:{index}", "name": names.get(index, "GPU")}
        )
    return found


def environments() -> list[str]:
    """The named environments of programs whose Python can be started here."""
    return [name for name, python in settings.ENVIRONMENTS.items() if os.access(python, os.X_OK)]


def versions() -> dict[str, str]:
    """What trainings here stand on. torch's build is read from its package: the worker never imports it."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.release()}"}
    with suppress(metadata.PackageNotFoundError):
        found["torch"] = metadata.version("torch")
    with _nvml() as is_there:
        if is_there:
            with suppress(pynvml.NVMLError):
                found["nvidia_driver"] = pynvml.nvmlSystemGetDriverVersion()
    return found


def load() -> dict[str, Any]:
    """Memory in bytes and utilisation in percent, now. The CPU's is the mean since the call before."""
    memory = psutil.virtual_memory()
    total, free = _within_the_container(memory.total, memory.available)
    return {
        "cpu_percent": psutil.cpu_percent(),
        "cpu_count": psutil.cpu_count() or 1,
        "memory_total": total,
        "memory_free": free,
        "gpus": gpus(),
    }


def gpus() -> list[dict[str, Any]]:
    """The GPUs that Heimdall may use here, as the driver sees them; empty without a driver."""
    with _nvml() as is_there:
        if not is_there:
            return []
        found = []
        for slot in range(len(settings.GPUS)):
            with suppress(pynvml.NVMLError):
                found.append(_gpu(slot))
        return found


@functools.lru_cache
def memory_bytes() -> int:
    """The memory that one job may find here: the machine's (as far as a container lets us), or its largest GPU's."""
    memory = psutil.virtual_memory()
    total, _ = _within_the_container(memory.total, memory.available)
    return max([total, *(gpu["memory_total"] for gpu in gpus())])


def processor() -> str:
    """What the CPU is called."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _number(slot: int) -> int:
    """A GPU that is known by its UUID is shown by its place."""
    known_by = settings.GPUS[slot]
    return known_by if isinstance(known_by, int) else slot


def _gpu(slot: int) -> dict[str, Any]:
    known_by = settings.GPUS[slot]
    by_uuid = isinstance(known_by, str)
    handle = (pynvml.nvmlDeviceGetHandleByUUID if by_uuid else pynvml.nvmlDeviceGetHandleByIndex)(known_by)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "index": _number(slot),
        "known_by": known_by,
        "name": pynvml.nvmlDeviceGetName(handle),
        "memory_total": int(memory.total),
        "memory_free": int(memory.free),
        "busy_percent": _busy_percent(handle),
    }


def _busy_percent(handle: Any) -> int | None:
    """None where the driver does not tell, such as for a slice of a GPU."""
    with suppress(pynvml.NVMLError):
        return int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return None


@contextmanager
def _nvml() -> Iterator[bool]:
    """Whether the driver answers. Opened for each question: a driver may be reloaded under a worker."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _within_the_container(total: int, free: int) -> tuple[int, int]:
    """A container may have less than its machine."""
    with suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        return min(total, limit), min(free, max(limit - used, 0))
    return total, free
