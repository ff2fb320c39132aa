"""Named points where a test kills, stops or breaks the process. Free when off.

`HEIMDALL_FAILPOINTS="staged=kill,before_write=raise:3"`: what happens, and at which passage (else the first). Each
process counts for itself, unless `HEIMDALL_FAILPOINTS_ONCE` names a folder: then each point acts once in all of them,
and leaves a file of its name there.
"""

import os
import signal

VARIABLE = "HEIMDALL_FAILPOINTS"
ONCE = "HEIMDALL_FAILPOINTS_ONCE"


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
    if not _is_first_of_all(name):
        return
    if kind == "raise":
        raise FailpointReached(28, f"failpoint {name}")
    # To this thread: sent to the process, it may act on another one first, and this one would go on meanwhile.
    signal.raise_signal(signal.SIGKILL if kind == "kill" else signal.SIGSTOP)


def _is_first_of_all(name: str) -> bool:
    folder = os.environ.get(ONCE)
    if not folder:
        return True
    try:
        os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


_armed: dict[str, tuple[str, int]] = {}
configure(os.environ.get(VARIABLE, ""))
