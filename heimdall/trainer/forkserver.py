"""Trainers that start warm: forked from a process that has torch imported already.

The fork server belongs to one supervisor and dies with it. It is a new interpreter in a session of its own that
imports torch and the engine, runs no torch operation and no CUDA call, and stays single-threaded: a fork of a process
with threads could hang. For each request it forks a trainer, which sets up its own end (see `_be_trainer`), and it
tells the supervisor of each that has ended: {"pid", "code"}, the code negative for a signal.

`WarmLauncher` is the supervisor's side. Whatever goes wrong with the server, a trainer is started cold instead.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from heimdall.processes import die_with_parent
from heimdall.trainer import channel as trainer_channel
from heimdall.trainer import launch
from heimdall.trainer.channel import Channel
from heimdall.trainer.family import Family
from heimdall.trainer.launch import ChildEnds, ColdLauncher, Launcher, Process
from heimdall.trainer.protocol import (
    RECIPE_DRIVER,
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
SUPERVISOR_DIED = signal.SIGUSR1
MOST_FAILURES = 3  # of servers in a row; from then on every start is cold

_PACKET_BYTES = 65_536
_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
_MODULE = "heimdall.trainer.forkserver"
_LARGE_PAGE = 2 * 2**20
_MADV_COLLAPSE = 25  # since Linux 6.1
# What every trainer needs. The first optimizer would import torch._dynamo, for seconds; every config is made of
# pydantic, and `import pydantic` alone loads little of it.
_ENGINE = ("torch._dynamo", RECIPE_DRIVER, "pydantic.main", "pydantic.fields", "pydantic.types")


class WarmLauncher:
    """Starts trainers through a fork server, which it starts ahead of time with `warm_up`."""

    def __init__(self, *, preload: Sequence[str] = (), cold: Launcher | None = None, module: str = _MODULE):
        """`preload` names modules that recipes import, and that neither run torch nor start threads."""
        self._cold = cold or ColdLauncher()
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
                self._server = _Server(*self._command)
            except OSError:
                self._failures += 1
        return self._server

    def _drop(self) -> None:
        if self._server is not None:
            self._failures += 1
            # Another process's server is not ours to end: this one was forked from it.
            if self._server.is_ours():
                self._server.close()
            self._server = None


def can_fork() -> bool:
    """Whether this system has what makes a forked trainer safe; else every start is cold."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class _Server:
    """The supervisor's handle of its fork server."""

    def __init__(self, module: str, *preload: str):
        self._owner = os.getpid()
        self._started_at = time.monotonic()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._popen = launch.start_process(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(self._owner), *preload],
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=server_environment(os.environ),
            )
        self._changed = threading.Condition()
        self._is_ready = False
        self._is_gone = False
        self._answers: dict[int, _ForkedProcess | None] = {}
        self._codes: dict[int, int] = {}
        self._requests = 0
        self._reader = threading.Thread(target=self._read, name="fork-server", daemon=True)
        self._reader.start()

    def is_ours(self) -> bool:
        return self._owner == os.getpid()

    def is_usable(self) -> bool:
        return self.is_ours() and not self._is_gone and self._popen.poll() is None

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
        self._popen.kill()
        self._popen.wait()
        self._reader.join(1)
        self._socket.close()

    def _wait(self, condition: Any, seconds: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_gone or condition(), seconds)
            return not self._is_gone and bool(condition())

    def _read(self) -> None:
        try:
            with contextlib.suppress(OSError):
                while True:
                    packet, fds, _, _ = socket.recv_fds(self._socket, _PACKET_BYTES, 1)
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
                    self._is_ready = True
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


# The server's side


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    # Asking for GPUs must not start CUDA here: a fork could not use it then.
    return launch.base_environment(environment) | {_NVML_CHECK: "1"}


def main(run: Callable[[Channel], int] = trainer_channel.drive, *, needed: Sequence[str] = _ENGINE) -> None:
    parent_socket, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    parent_socket.set_inheritable(False)
    die_with_parent(parent, SUPERVISOR_DIED)  # not at once: what trainers have started is to go first
    trainer_channel.ignore_signals()
    trainer_channel.set_title("heimdall fork server")
    preload([*needed, *sys.argv[3:]])
    require_one_thread()
    require_no_cuda()
    gc.collect()
    gc.freeze()  # what is there stays shared with the forks
    gather_into_large_pages()
    serve(parent_socket, run)


def preload(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def require_one_thread() -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"the fork server has {threads} threads; a fork of it could hang")


def require_no_cuda() -> None:
    # NVML opens other devices; this one is opened when CUDA starts.
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/nvidia-uvm":
                raise RuntimeError("an import has started CUDA; a fork of this process could not use it")


def gather_into_large_pages() -> None:
    """Have the kernel lay the memory that forks will share into pages of 2 MB, where it can.

    Each fork gets a table of all pages, and its end takes that down again: in pages of 4 kB this server's 215 MB cost
    each trainer 7 ms of processor time at its start and about 10 at its end, for which its slot waits.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, _, _, inode, *name = line.split()
        begin, end = (int(address, 16) for address in place.split("-"))
        begin, end = -(-begin // _LARGE_PAGE) * _LARGE_PAGE, end // _LARGE_PAGE * _LARGE_PAGE
        if rights == "rw-p" and inode == "0" and name in ([], ["[heap]"]) and begin < end:
            # An older kernel refuses, and all stays as it was.
            libc.madvise(begin, end - begin, _MADV_COLLAPSE)


def serve(parent: socket.socket, run: Callable[[Channel], int]) -> NoReturn:
    """Fork when asked, and tell of each end. A loop: 1 what ended, 2 what is asked, 3 wait."""
    family = Family()
    wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(SUPERVISOR_DIED, lambda *_: family.end())
    _tell(parent, ServerReady())
    while True:
        sources: list[Any] = [parent, wake_reader]
        readable = select.select(sources, [], [])[0]
        if wake_reader in readable:
            os.read(wake_reader, 4096)
            for ended in family.ended():
                _tell(parent, ended)
        if parent in readable:
            _fork_if_asked(parent, run, family, keep_out=(wake_reader, wake_writer))


def _fork_if_asked(
    parent: socket.socket, run: Callable[[Channel], int], family: Family, *, keep_out: tuple[int, ...]
) -> None:
    try:
        packet, fds, _, _ = socket.recv_fds(parent, _PACKET_BYTES, 3)
    except ConnectionError:
        packet, fds = b"", []
    if not packet:
        family.end()  # the supervisor is gone
    request = decode(packet, ForkTrainer)
    try:
        require_one_thread()
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            for fd in (parent.detach(), *keep_out):
                os.close(fd)
            _be_trainer(run, request.environment, ChildEnds(*fds), server)
        family.add(pid)
        # Nobody but us waits for it, so that the number is still its own.
        pidfd = os.pidfd_open(pid)
        _tell(parent, TrainerForked(request.request, pid), [pidfd])
        os.close(pidfd)
    except (OSError, RuntimeError) as error:
        _tell(parent, ForkRefused(request.request, str(error)))
    finally:
        for fd in fds:
            os.close(fd)


def _be_trainer(
    run: Callable[[Channel], int], environment: dict[str, str], ends: ChildEnds, server: int
) -> NoReturn:
    code = 1
    try:
        die_with_parent(server)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, SUPERVISOR_DIED):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        for stream in (1, 2):
            os.dup2(ends.log, stream)
        os.close(ends.log)
        os.environ.pop(_NVML_CHECK, None)
        os.environ.update(environment)
        channel = trainer_channel.settle(Channel(ends.control, ends.messages))
        channel.finish(run(channel))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # Never back into the server's loop.
        os._exit(code)


def _tell(parent: socket.socket, message: FromForkServer, fds: list[int] | None = None) -> None:
    try:
        socket.send_fds(parent, [encode(message)], fds or [])
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main()
