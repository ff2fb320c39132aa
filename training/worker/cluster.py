"""The cluster of django-q2, as the guard sees it: a process that it starts, watches and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from heimdall.trainer.zygote import Zygote
from training import queue, runner


def run_cluster(guard: int, *, zygote: int | None) -> None:
    """Be the cluster of the guard with this pid; `zygote` is an end of a socket that the guard has passed on."""
    if zygote is not None:
        runner.use_zygote(zygote)
    queue.run_cluster(guard)


class ClusterProcess:
    """django-q2's process tree, in a session of its own so that no terminal reaches it."""

    def __init__(self, zygote: Zygote | None = None) -> None:
        self._zygote = zygote
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, sys.argv[0], "worker", "--cluster-of", str(os.getpid())]
        passed: tuple[int, ...] = ()
        if self._zygote is not None:
            passed = (self._zygote.asking.fileno(),)
            command += ["--fork-servers-on", str(passed[0])]
        self._process = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.DEVNULL, pass_fds=passed
        )

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
