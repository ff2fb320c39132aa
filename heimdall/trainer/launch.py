"""What every way to start a trainer shares: its environment, and what a launcher and a process can do.

Nothing here imports torch. `ColdLauncher` (cold.py) starts an interpreter, `WarmLauncher` (warm.py) forks one that
has torch imported already.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from heimdall.trainer.protocol import TrainerSpec

# There only the package `heimdall` can be imported: all other names in a trainer are the user's own.
IMPORTABLE = str(Path(__file__).resolve().parent / "importable")
# Of Heimdall's own settings a trainer sees these alone: recipes are other people's code.
_PASSED_ON = {"HEIMDALL_RECIPES", "HEIMDALL_FAILPOINTS", "HEIMDALL_FAILPOINTS_ONCE", "HEIMDALL_TEXT_FOLDERS"}
_WITHHELD = {
    "DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
}  # fmt: skip


@dataclass(frozen=True)
class ChildEnds:
    """The file descriptors that belong to the trainer; the launcher's caller closes its copies."""

    control: int
    messages: int
    log: int


class Process(Protocol):
    """A process that somebody started. Who waits for it is the launcher's affair."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """The exit code, or minus the signal; None while it lives."""

    def wait(self, timeout: float) -> bool:
        """Whether it has ended, and its memory is free; waits so long for it."""

    def kill(self) -> None:
        """End it and all of its session, at once. Nothing happens if it has ended."""


class Launcher(Protocol):
    def launch(self, spec: TrainerSpec, ends: ChildEnds) -> Process: ...


def start_process(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, from a thread that lives as long as this process.

    The kernel's signal at a parent's death follows the thread that started the child, not the process.
    """
    options |= {"stdin": subprocess.DEVNULL, "start_new_session": True}
    started: subprocess.Popen[bytes] = (
        _starter(os.getpid()).submit(lambda: subprocess.Popen(command, **options)).result()
    )
    return started


@lru_cache(maxsize=1)
def _starter(pid: int) -> ThreadPoolExecutor:
    """The thread; a fork has none, and gets its own."""
    return ThreadPoolExecutor(1, f"starter-{pid}")


def kill_session(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What every trainer has in common; it must stand before the interpreter starts."""
    passed = {
        name: value
        for name, value in environment.items()
        if name not in _WITHHELD and (not name.startswith("HEIMDALL_") or name in _PASSED_ON)
    }
    passed["PYTHONPATH"] = os.pathsep.join(filter(None, [IMPORTABLE, passed.get("PYTHONPATH", "")]))
    passed["PYTHONHASHSEED"] = "0"  # a recipe that walks over a set of strings does so in one order
    passed["PYTHONUTF8"] = "1"  # text is read in one way on every host
    passed["PYTHONUNBUFFERED"] = "1"
    # The threads of numpy's BLAS start with its import, so that a fork server could not have them; its sums must
    # not depend on how the trainer was started.
    passed["OPENBLAS_NUM_THREADS"] = "1"
    # Threads of torch that wait for each other sleep. By default they spin, and where something else wants the cores
    # (another slot's training) the one that is waited for does not get one: a step then took 15 times as long.
    passed.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return passed


def own_environment(spec: TrainerSpec) -> dict[str, str]:
    """What depends on the job; it must stand before torch looks for GPUs and cores."""
    own = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if spec.device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    elif spec.gpu is not None:
        own["CUDA_VISIBLE_DEVICES"] = str(spec.gpu)
        # As the driver counts; by itself CUDA begins with the fastest.
        own["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if spec.threads is not None:
        own |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(spec.threads))
    return own


def child_environment(spec: TrainerSpec, environment: Mapping[str, str]) -> dict[str, str]:
    return base_environment(environment) | own_environment(spec)
