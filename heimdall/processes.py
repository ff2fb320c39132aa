"""What processes of both wings do for themselves. It knows neither torch nor Django."""

import ctypes
import gc
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Ask the kernel for a signal when the parent dies, then look whether it is dead already.

    The kernel follows the parent's *thread* that started us, and each fork clears the request.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    # Only now: a parent that ended before the call above would go unnoticed for ever.
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def num_threads() -> int:
    """Of this process, those that Python does not know too."""
    return len(os.listdir("/proc/self/task"))


def can_be_forked() -> bool:
    """Whether a fork of this process can go on as it pleases: a lock that another thread held would stay locked."""
    return sys.platform == "linux" and num_threads() == 1


def share_memory() -> None:
    """Before a fork: what is here now stays shared, for no process looks for garbage in it, which writes to it."""
    gc.collect()
    gc.freeze()


def leave_the_parents_session() -> None:
    """After a fork: signals, the terminal and the standard input of the parent are not ours."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


class ForkedChild:
    """A child that this process has forked, or a process whose place this one took; with what is asked of a Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._look(os.WNOHANG)

    def wait(self) -> int | None:
        return self._look(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it was waited for, its number is its own
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode
