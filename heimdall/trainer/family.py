"""The fork server's children: its trainers, and what they started and left behind.

The server is a subreaper: a process whose parent has ended becomes its child, in whatever session it is (a daemon
that forked twice too). When a trainer ends, nothing of it lives on: not its process group, not its session, and, when
no other trainer is there that it could belong to, nothing that was left behind.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from heimdall.trainer.launch import kill_session
from heimdall.trainer.protocol import TrainerEnded

_PR_SET_CHILD_SUBREAPER = 36
END_SECONDS = 5.0  # until what was killed has to be gone


@dataclass
class _Ranks:
    """The processes of one trainer. The end of the first of them ends all, and says how it ended."""

    leader: int
    alive: set[int]
    code: int | None = None


class Family:
    def __init__(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._trainers: dict[int, _Ranks] = {}

    def add(self, pids: list[int]) -> None:
        """The processes of a trainer, rank 0's first."""
        ranks = _Ranks(pids[0], set(pids))
        self._trainers |= dict.fromkeys(pids, ranks)

    def kill(self, pids: list[int]) -> None:
        """They were forked and belong to no trainer after all."""
        for pid in pids:
            kill_session(pid)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def ended(self) -> Iterator[TrainerEnded]:
        """Each trainer that has ended, when nothing of it is left."""
        while (pid := _ended_child()) is not None:
            if pid in self._trainers:
                kill_session(pid)  # its number is still its own
            status = os.waitpid(pid, 0)[1]
            if pid in self._trainers:
                ranks = self._trainers.pop(pid)
                self._end_what_is_left_of(pid)
                yield from _rank_ended(ranks, pid, os.waitstatus_to_exitcode(status))

    def end(self) -> NoReturn:
        """End everything, and this process."""
        for pid in self._trainers:
            kill_session(pid)
        self._trainers.clear()
        self._end_what_is_left_of(0)
        os._exit(0)

    def _end_what_is_left_of(self, trainer: int) -> None:
        """Killing one makes its own children ours, so look again until there is none."""
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            left = [pid for pid in _children() - self._trainers.keys() if self._is_of(pid, trainer)]
            if not left:
                return
            for pid in left:
                with suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)

    def _is_of(self, pid: int, trainer: int) -> bool:
        with suppress(ProcessLookupError):
            return not self._trainers or os.getsid(pid) == trainer
        return False


def _rank_ended(ranks: _Ranks, pid: int, code: int) -> Iterator[TrainerEnded]:
    """The others would wait for it for ever: they end with it."""
    ranks.alive.remove(pid)
    if ranks.code is None:
        ranks.code = code
        for other in ranks.alive:
            kill_session(other)
    if not ranks.alive:
        yield TrainerEnded(ranks.leader, ranks.code)


def _ended_child() -> int | None:
    """A child that has ended and was not waited for yet."""
    with suppress(ChildProcessError):
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found.si_pid if found else None
    return None


def _children() -> set[int]:
    me = os.getpid()
    with suppress(FileNotFoundError):  # a kernel that was built without it
        return {int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()}
    return set()
