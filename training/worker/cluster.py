"""The cluster of django-q2, as the guard sees it: a process that it starts, watches and ends.

The first one is forked from the guard, and shares its memory. Later ones are new interpreters: by then the guard has
threads, and a fork of it could hang.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from heimdall.processes import ForkedChild, can_be_forked, leave_the_parents_session, share_memory
from heimdall.trainer.zygote import Zygote
from training import host, queue, runner


def run_cluster(guard: int, *, zygote: int | None) -> None:
    """Be the cluster of the guard with this pid; `zygote` is an end of a socket that the guard has passed on."""
    if zygote is not None:
        runner.use_zygote(zygote)
    queue.run_cluster(guard)


class ClusterProcess:
    """django-q2's process tree, in a session of its own so that no terminal reaches it."""

    def __init__(self, lock: host.FileLock, zygote: Zygote | None = None) -> None:
        self._lock = lock
        self._zygote = zygote
        self._process: subprocess.Popen[bytes] | ForkedChild | None = None

    def start(self) -> None:
        self._process = self._fork() if can_be_forked() else self._execute()

    def _fork(self) -> ForkedChild:
        guard = os.getpid()
        queue.preload()
        share_memory()
        pid = os.fork()
        if pid == 0:
            self._be_cluster(guard)
        return ForkedChild(pid)

    def _be_cluster(self, guard: int) -> NoReturn:
        code = 1
        try:
            leave_the_parents_session()
            self._lock.leave_to_parent()
            run_cluster(guard, zygote=self._zygote.leave_to_parent() if self._zygote else None)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)  # never back into the guard's loop

    def _execute(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, sys.argv[0], "worker", "--cluster-of", str(os.getpid())]
        passed: tuple[int, ...] = ()
        if self._zygote is not None:
            passed = (self._zygote.asking.fileno(),)
            command += ["--fork-servers-on", str(passed[0])]
        return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, pass_fds=passed)

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        if self._process and self.is_alive():
            self._process.terminate()

    def abandon(self) -> None:
        """Kill the head. Idle processes follow it at once; a supervisor at work finishes its attempt first."""
        if self._process and self.is_alive():
            self._process.kill()
        if self._process:
            self._process.wait()

    def kill_session(self) -> None:
        with suppress(ProcessLookupError):
            if self._process:
                os.killpg(self._process.pid, signal.SIGKILL)
