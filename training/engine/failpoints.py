"""Named points where a test kills, stops or breaks the process. Free when off.

`HEIMDALL_FAILPOINTS="staged=kill,before_write=raise:3"`: what happens, and at which passage (else the first).
"""

import os
import signal

VARIABLE = "HEIMDALL_FAILPOINTS"


class FailpointReached(OSError):
    """Raised by the kind `raise`. An OSError, because it stands for a disk or a pipe that fails."""


def failpoint(name: str) -> None:
    if _armed and name in _armed:
        _pass(name)


def configure(text: str) -> None:
    """Arm the points that the text names, and forget the others."""
    _armed.clear()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, action = entry.partition("=")
        kind, _, passage = action.partition(":")
        if not name or kind not in ("kill", "stop", "raise") or not (passage or "1").isdigit():
            raise ValueError(f"{VARIABLE}: {entry!r} is not name=kill|stop|raise[:passage]")
        _armed[name] = (kind, int(passage or "1"))


def _pass(name: str) -> None:
    kind, passage = _armed[name]
    if passage > 1:
        _armed[name] = (kind, passage - 1)
        return
    del _armed[name]
    if kind == "raise":
        raise FailpointReached(28, f"failpoint {name}")
    os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.SIGSTOP)


_armed: dict[str, tuple[str, int]] = {}
configure(os.environ.get(VARIABLE, ""))
