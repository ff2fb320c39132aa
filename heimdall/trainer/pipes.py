"""Pipes and threads as both ends of the trainer's channel need them."""

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from typing import Any

PIPE_BYTES = 2**20


def open_pipe(*, read_by: contextlib.ExitStack, written_by: contextlib.ExitStack) -> tuple[int, int]:
    """Both ends, which are closed with whom they belong to."""
    reader, writer = os.pipe()
    read_by.callback(os.close, reader)
    written_by.callback(os.close, writer)
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reader, writer


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def start_thread(name: str, target: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, name=f"trainer-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the only one of this kind that is the system's
        raise OSError(errno.EAGAIN, "no further thread can be started") from error
    return thread
