"""What processes of both wings do for themselves. It knows neither torch nor Django."""

import ctypes
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
