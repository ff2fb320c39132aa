"""What every way to start a trainer shares: its environment, and what a launcher and a process can do.

Nothing here imports torch. `ColdLauncher` (cold.py) starts an interpreter, `WarmLauncher` (warm.py) forks one that
has torch imported already.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
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


NONE = -1  # in the place of a file descriptor


@dataclass(frozen=True)
class RankEnds:
    """The file descriptors that belong to one process of a trainer. Only rank 0 has the pipes."""

    control: int
    messages: int
    log: int
    page: int = NONE
    rank: int = 0


@dataclass(frozen=True)
class ChildEnds:
    """The file descriptors that belong to the trainer; the launcher's caller closes its copies."""

    control: int
    messages: int
    logs: tuple[int, ...]
    page: int = NONE
    """The memory that its ranks share, where there are several."""

    @property
    def files(self) -> list[int]:
        """As they travel in a packet."""
        shared = [] if self.page == NONE else [self.page]
        return [self.control, self.messages, *shared, *self.logs]

    @classmethod
    def of_files(cls, files: Sequence[int], *, ranks: int) -> "ChildEnds":
        control, messages, *rest = files
        return cls(control, messages, tuple(rest[-ranks:]), rest[0] if len(rest) > ranks else NONE)

    def of_rank(self, rank: int) -> RankEnds:
        pipes = (self.control, self.messages) if rank == 0 else (NONE, NONE)
        return RankEnds(*pipes, self.logs[rank], self.page, rank)


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


def own_environment(spec: TrainerSpec, rank: int = 0) -> dict[str, str]:
    """What depends on the job; it must stand before torch looks for GPUs and cores."""
    own = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if spec.device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    elif None not in spec.gpus:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in spec.gpus if gpu != "")
        # As the driver counts; by itself CUDA begins with the fastest.
        own["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if spec.threads is not None:
        own |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(spec.threads))
    if has_several_ranks(spec):
        own |= _place_among_ranks(spec, rank)
    return own


def has_several_ranks(spec: TrainerSpec) -> bool:
    return max(spec.ranks, spec.world_size) > 1


def _place_among_ranks(spec: TrainerSpec, rank: int) -> dict[str, str]:
    """The variables by which torch.distributed finds its place. MASTER_PORT comes when rank 0 has one."""
    host, _, port = spec.rendezvous.rpartition(":")
    here = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    where = {"MASTER_ADDR": host, "MASTER_PORT": port} if spec.rendezvous else here
    return where | {
        "RANK": str(spec.rank_offset + rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(spec.world_size or spec.ranks),
        "LOCAL_WORLD_SIZE": str(spec.ranks),
        "GROUP_RANK": str(spec.rank_offset // spec.ranks),
    }


def environments(spec: TrainerSpec) -> list[dict[str, str]]:
    """Of each rank of this host."""
    return [own_environment(spec, rank) for rank in range(spec.ranks)]


def child_environment(spec: TrainerSpec, environment: Mapping[str, str]) -> dict[str, str]:
    return base_environment(environment) | own_environment(spec)
