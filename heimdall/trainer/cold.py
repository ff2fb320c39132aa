"""Trainers that start cold: each is a new interpreter, which imports torch for itself.

Between supervisor and trainer stands a small process (cold_server.py): the parent of this one trainer, which ends
with it whatever its code has started. Where a system has no such process, the supervisor itself is the parent.
"""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time

from heimdall.trainer import launch
from heimdall.trainer.launch import IMPORTABLE, ChildEnds, Process, RankEnds, kill_session, start_process
from heimdall.trainer.protocol import TrainerSpec
from heimdall.trainer.server_handle import ForkedProcess, ForkServer, can_fork

TRAINER = "heimdall.trainer.__main__"
_SERVER = "heimdall.trainer.cold_server"


def trainer_command(python: str, module: str, ends: RankEnds, parent: int) -> list[str]:
    options = ["-P"] if _has_safe_path(python) else []
    numbers = (ends.control, ends.messages, parent, ends.page, ends.rank)
    return [python, *options, "-m", module, *map(str, numbers)]


def start_folder(python: str) -> str | None:
    """Where it is started, which is a place for imports without -P."""
    return None if _has_safe_path(python) else IMPORTABLE


def _has_safe_path(python: str) -> bool:
    """-P: the folder that it is started in is no place for imports. Python 3.10 has no such option."""
    return python == sys.executable and sys.version_info >= (3, 11)


class ColdLauncher:
    """Starts a new interpreter: this one, or that of another environment."""

    def __init__(self, module: str = TRAINER, *, python: str = sys.executable, server: str = _SERVER):
        self._module, self._python, self._server = module, python, server

    def launch(self, spec: TrainerSpec, ends: ChildEnds) -> Process:
        if shutil.which(self._python) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._python)
        return self._with_a_server(spec, ends) or self._without(spec, ends)

    def _with_a_server(self, spec: TrainerSpec, ends: ChildEnds) -> Process | None:
        if not can_fork():
            return None
        server = ForkServer.of_its_own(self._server, self._python, self._module)
        process = server.fork(launch.environments(spec), ends)
        if process is None:
            server.close()
            return None
        return _ServedProcess(process, server)

    def _without(self, spec: TrainerSpec, ends: ChildEnds) -> Process:
        if launch.has_several_ranks(spec):
            raise OSError(errno.ENOTSUP, "several devices of one job need Linux and Python 3.11 or newer")
        own = ends.of_rank(0)
        popen = start_process(
            trainer_command(self._python, self._module, own, os.getpid()),
            stdout=own.log,
            stderr=own.log,
            pass_fds=(ends.control, ends.messages),
            cwd=start_folder(self._python),
            env=launch.child_environment(spec, os.environ),
        )
        return _ChildProcess(popen)


class _ServedProcess:
    """A trainer whose server is there for it alone: it goes when nothing of the trainer is left."""

    def __init__(self, process: ForkedProcess, server: ForkServer):
        self._process, self._server = process, server

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None:
            self._server.close()
        return code

    def wait(self, timeout: float) -> bool:
        if not self._process.wait(timeout):
            return False
        self._server.wait_for_end_of(self.pid)
        self.poll()
        return True

    def kill(self) -> None:
        self._process.kill()


class _ChildProcess:
    """A trainer that is the supervisor's own child."""

    def __init__(self, popen: "subprocess.Popen[bytes]"):
        self._popen = popen
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def poll(self) -> int | None:
        with self._lock:
            if self._popen.returncode is None and _has_ended(self._popen.pid):
                # Before its number is given back: what it started and left behind goes with it.
                kill_session(self._popen.pid)
            return self._popen.poll()

    def wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)
        return True

    def kill(self) -> None:
        # Not reaped yet means that the number is still its own.
        with self._lock:
            if self._popen.poll() is None:
                kill_session(self._popen.pid)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended and nobody has waited for it yet."""
    if not hasattr(os, "waitid"):  # macOS: nobody knows it in time
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
