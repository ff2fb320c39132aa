"""The supervisor's side of its fork server: trainers that start warm, forked from a process with torch imported.

The server is forked from the host's zygote, where there is one, and shares its memory; else it is a new interpreter.
Whatever goes wrong with the server, a trainer is started cold instead.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from heimdall.trainer import launch
from heimdall.trainer.forkserver import server_environment
from heimdall.trainer.launch import ChildEnds, ColdLauncher, Launcher, Process
from heimdall.trainer.protocol import (
    PACKET_BYTES,
    ForkForkServer,
    ForkRefused,
    ForkTrainer,
    FromForkServer,
    ServerReady,
    TrainerEnded,
    TrainerForked,
    TrainerSpec,
    decode,
    encode,
)

READY_SECONDS = 60
FORK_SECONDS = 10
END_SECONDS = 5
MOST_FAILURES = 3  # of servers in a row; from then on every start is cold

_MODULE = "heimdall.trainer.forkserver"


class WarmLauncher:
    """Starts trainers through a fork server, which it starts ahead of time with `warm_up`."""

    def __init__(
        self,
        *,
        preload: Sequence[str] = (),
        cold: Launcher | None = None,
        module: str = _MODULE,
        zygote: socket.socket | None = None,
    ):
        """`preload` names modules that recipes import, and that neither run torch nor start threads.

        `zygote` leads to the host's zygote.
        """
        self._cold = cold or ColdLauncher()
        self._zygote, self._avoids_zygote = zygote, False
        self._command = [module, *preload]
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._failures = 0

    def warm_up(self) -> None:
        """Start the server, so that the first trainer need not wait. Returns at once."""
        with self._lock:
            self._living_server()

    def is_getting_ready(self) -> bool:
        """Whether a launch would have to wait for the server now."""
        with self._lock:
            server = self._living_server()
            return server is not None and server.is_getting_ready()

    def launch(self, spec: TrainerSpec, ends: ChildEnds) -> Process:
        with self._lock:
            server = self._living_server()
            forked = server.fork(launch.own_environment(spec), ends) if server else None
            if forked is not None:
                self._failures = 0
                return forked
            self._drop()
        return self._cold.launch(spec, ends)

    def close(self) -> None:
        """End the server, and with it the trainers that it forked."""
        with self._lock:
            if self._server is not None:
                self._server.close()
                self._server = None

    def _living_server(self) -> "_Server | None":
        if self._server is not None and not self._server.is_usable():
            self._drop()
        if self._server is None and self._failures < MOST_FAILURES and can_fork():
            try:
                self._server = self._start_server()
            except OSError:
                self._failures += 1
        return self._server

    def _start_server(self) -> "_Server":
        if self._zygote is not None and not self._avoids_zygote:
            with contextlib.suppress(OSError):  # there is none now
                return _Server.of_zygote(self._zygote)
        return _Server.of_its_own(*self._command)

    def _drop(self) -> None:
        if self._server is not None:
            self._failures += 1
            self._avoids_zygote = not self._server.was_ready
            # Another process's server is not ours to end: this one was forked from it.
            if self._server.is_ours():
                self._server.close()
            self._server = None


def can_fork() -> bool:
    """Whether this system has what makes a forked trainer safe; else every start is cold."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class _Server:
    """The supervisor's handle of its fork server."""

    def __init__(self, connection: socket.socket, popen: "subprocess.Popen[bytes] | None" = None):
        self._owner = os.getpid()
        self._started_at = time.monotonic()
        self._socket, self._popen = connection, popen
        self._changed = threading.Condition()
        self._is_ready = False
        self._is_gone = False
        self._pid, self._pidfd = 0, -1  # known when it is ready
        self._answers: dict[int, _ForkedProcess | None] = {}
        self._codes: dict[int, int] = {}
        self._requests = 0
        self._reader = threading.Thread(target=self._read, name="fork-server", daemon=True)
        self._reader.start()

    @classmethod
    def of_its_own(cls, module: str, *preload: str) -> "_Server":
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
    def of_zygote(cls, zygote: socket.socket) -> "_Server":
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

    def fork(self, environment: Mapping[str, str], ends: ChildEnds) -> "_ForkedProcess | None":
        """A trainer with these ends, or None when the server is of no use."""
        if not self._wait(lambda: self._is_ready, READY_SECONDS):
            return None
        self._requests += 1
        number = self._requests
        request = encode(ForkTrainer(number, dict(environment)))
        try:
            socket.send_fds(self._socket, [request], [ends.control, ends.messages, ends.log])
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

    def close(self) -> None:
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
                    packet, fds, _, _ = socket.recv_fds(self._socket, PACKET_BYTES, 1)
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
                    self._codes.pop(message.pid, None)  # of an earlier one with the same number
                    self._answers[message.request] = _ForkedProcess(self, message.pid, fds[0])
                case ForkRefused():
                    self._answers[message.request] = None
                case TrainerEnded():
                    self._codes[message.pid] = message.code
            self._changed.notify_all()


class _ForkedProcess:
    """A trainer that the server forked and waits for; its pidfd tells us even when the server is gone."""

    def __init__(self, server: _Server, pid: int, pidfd: int):
        self._server, self._pid, self._pidfd = server, pid, pidfd
        self._code: int | None = None
        self._lock = threading.Lock()

    def __del__(self) -> None:
        os.close(self._pidfd)

    @property
    def pid(self) -> int:
        return self._pid

    def poll(self) -> int | None:
        with self._lock:
            if self._code is None and self._has_ended():
                self._code = self._server.code_of(self._pid)
            return self._code

    def wait(self, timeout: float) -> bool:
        return self._code is not None or self._has_ended(timeout)

    def kill(self) -> None:
        with self._lock:
            if self._code is None and not self._has_ended():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                launch.kill_session(self._pid)

    def _has_ended(self, timeout: float = 0) -> bool:
        """A pidfd tells when the process is torn down: by then its memory, the GPU's too, is given back."""
        return bool(select.select([self._pidfd], [], [], timeout)[0])
