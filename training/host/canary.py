"""The canary: the number of the last message that the host's cluster executed. The guard watches it."""

from __future__ import annotations

import os
from contextlib import suppress

from training.host.locks import folder


def answer_canary(number: int) -> None:
    """Note that the cluster of this host executed message `number`.

    It is written over the last one: on a full disk, a cluster that works must not seem dead.
    """
    handle = os.open(folder() / "canary", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(handle, f"{number:>20}".encode(), 0)
    finally:
        os.close(handle)


def canary_answer() -> int:
    with suppress(OSError, ValueError):
        return int((folder() / "canary").read_text())
    return 0
