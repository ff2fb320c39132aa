"""The supervisor's handle of a fork server, and of the trainers that this one has forked."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from heimdall.trainer import launch
from heimdall.trainer.forkserver import server_environment
from heimdall.trainer.launch import ChildEnds
from heimdall.trainer.protocol import (
    MOST_RANKS,
    PACKET_BYTES,
    ForkForkServer,
    ForkRefused,
    ForkTrainer,
    FromForkServer,
    ServerReady,
    TrainerEnded,
    TrainerForked,
    decode,
    encode,
)

READY_SECONDS = 60
FORK_SECONDS = 10
END_SECONDS = 5


def can_fork() -> bool:
    """Whether this system has what makes a forked trainer safe; else every start is cold."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and sys.version_info >= (3, 11)


class ForkServer:
    """The supervisor's handle of its fork server."""

    def __init__(self, connection: socket.socket, popen: "subprocess.Popen[bytes] | None" = None):
        self._owner = os.getpid()
        self._started_at = time.monotonic()
        self._socket, self._popen = connection, popen
        self._changed = threading.Condition()
        self._closing = threading.Lock()
        self._is_ready = False
        self._is_gone = False
        self._pid, self._pidfd = 0, -1  # known when it is ready
        self._answers: dict[int, ForkedProcess | None] = {}
        self._codes: dict[int, int] = {}
        self._requests = 0
        self._reader = threading.Thread(target=self._read, name="fork-server", daemon=True)
        self._reader.start()

    @classmethod
    def of_its_own(cls, module: str, *preload: str) -> "ForkServer":
        """A new interpreter."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as undo:
            undo.enter_context(ours)
            popen = launch.start_process(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(os.getpid()), *preload],
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=server_environment(os.environ),
            )
            undo.pop_all()
        return cls(ours, popen)

    @classmethod
    def of_zygote(cls, zygote: socket.socket) -> "ForkServer":
        """A fork of the zygote that this socket leads to; while that one still imports, it comes later."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        me = os.pidfd_open(os.getpid())
        try:
            socket.send_fds(zygote, [encode(ForkForkServer())], [theirs.fileno(), me])
        except OSError:
            ours.close()
            raise
        finally:
            os.close(me)
            theirs.close()
        return cls(ours)

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def was_ready(self) -> bool:
        return self._is_ready

    def is_ours(self) -> bool:
        return self._owner == os.getpid()

    def is_usable(self) -> bool:
        has_ended = self._is_gone or (self._popen is not None and self._popen.poll() is not None)
        return self.is_ours() and not has_ended

    def is_getting_ready(self) -> bool:
        return self.is_usable() and not self._is_ready and time.monotonic() < self._started_at + READY_SECONDS

    def fork(self, environments: list[dict[str, str]], ends: ChildEnds) -> "ForkedProcess | None":
        """A trainer with these ends, a process for each environment, or None when the server is of no use."""
        if not self._wait(lambda: self._is_ready, READY_SECONDS):
            return None
        self._requests += 1
        number = self._requests
        request = encode(ForkTrainer(number, environments))
        try:
            socket.send_fds(self._socket, [request], ends.files)
        except OSError:
            return None
        if not self._wait(lambda: number in self._answers, FORK_SECONDS):
            return None
        return self._answers.pop(number)

    def code_of(self, pid: int) -> int | None:
        """How a trainer ended. One whose server is gone was killed with it."""
        with self._changed:
            if pid in self._codes:
                return self._codes[pid]
            return -signal.SIGKILL if self._is_gone else None

    def wait_for_end_of(self, pid: int) -> None:
        """Until nothing is left of a trainer that has ended."""
        self._wait(lambda: pid in self._codes, END_SECONDS)

    def close(self) -> None:
        with self._closing:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            if self._popen is not None:
                self._popen.kill()
                self._popen.wait()
            self._reader.join(1)
            self._end_fork()
            self._socket.close()

    def _end_fork(self) -> None:
        """The zygote waits for it; our pidfd tells when it is gone."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            select.select([self._pidfd], [], [], END_SECONDS)
            os.close(self._pidfd)
            self._pidfd = -1

    def _wait(self, condition: Any, seconds: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_gone or condition(), seconds)
            return not self._is_gone and bool(condition())

    def _read(self) -> None:
        try:
            with contextlib.suppress(OSError):
                while True:
                    packet, fds, _, _ = socket.recv_fds(self._socket, PACKET_BYTES, MOST_RANKS)
                    if not packet:
                        break
                    self._hear(decode(packet, FromForkServer), fds)
        finally:  # also where no file descriptor was left for a trainer's
            with self._changed:
                self._is_gone = True
                self._changed.notify_all()

    def _hear(self, message: FromForkServer, fds: list[int]) -> None:
        with self._changed:
            match message:
                case ServerReady():
                    self._is_ready, self._pid, self._pidfd = True, message.pid, fds[0]
                case TrainerForked():
                    self._codes.pop(message.pids[0], None)  # of an earlier one with the same number
                    self._answers[message.request] = ForkedProcess(self, message.pids, fds)
                case ForkRefused():
                    self._answers[message.request] = None
                case TrainerEnded():
                    self._codes[message.pid] = message.code
            self._changed.notify_all()


class ForkedProcess:
    """A trainer that the server forked and waits for, one process or one for each rank; their pidfds tell us even
    when the server is gone."""

    def __init__(self, server: ForkServer, pids: list[int], pidfds: list[int]):
        self._server, self._pids, self._pidfds = server, pids, pidfds
        self._code: int | None = None
        self._lock = threading.Lock()

    def __del__(self) -> None:
        for pidfd in self._pidfds:
            os.close(pidfd)

    @property
    def pid(self) -> int:
        return self._pids[0]

    def poll(self) -> int | None:
        with self._lock:
            if self._code is None and self._has_ended():
                self._code = self._server.code_of(self.pid)
            return self._code

    def wait(self, timeout: float) -> bool:
        return self._code is not None or self._has_ended(timeout)

    def kill(self) -> None:
        with self._lock:
            if self._code is None:
                for pid, pidfd in zip(self._pids, self._pidfds, strict=True):
                    _kill(pid, pidfd)

    def _has_ended(self, timeout: float = 0) -> bool:
        deadline = time.monotonic() + timeout
        return all(_is_over(pidfd, deadline - time.monotonic()) for pidfd in self._pidfds)


def _is_over(pidfd: int, timeout: float = 0) -> bool:
    """A pidfd tells when the process is torn down: by then its memory, the GPU's too, is given back."""
    return bool(select.select([pidfd], [], [], max(timeout, 0))[0])


def _kill(pid: int, pidfd: int) -> None:
    if not _is_over(pidfd):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        launch.kill_session(pid)
