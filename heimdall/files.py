"""Files that are there whole, or not at all: the one place where one is written aside and renamed.

    with whole_file(path) as file:
        file.write(data)

Nobody sees half of it under its name, whatever ends in between; what was there before stays until the rename.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import IO


class NotRegularFile(OSError):
    """A link, a directory, a pipe, a socket or a device lies where a file was expected. Nothing of it was read."""


def open_regular(path: str | os.PathLike[str]) -> FileIO:
    """The file for reading, unbuffered. Never waits for somebody who writes into a pipe, and follows no link."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {
            errno.ELOOP,
            errno.ENXIO,
            errno.ENODEV,
        }:  # a link; a socket; a device without a driver
            raise NotRegularFile(f"{os.fspath(path)} is no regular file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotRegularFile(f"{os.fspath(path)} is no regular file")
        return open(fd, "rb", buffering=0)
    except BaseException:
        os.close(fd)
        raise


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str], *, durable: bool = True, keep_existing: bool = False
) -> Iterator[IO[bytes]]:
    """A new file, readable by its owner alone, that takes the path's name when the block ends well.

    durable: it survives a power cut from then on. keep_existing: where somebody else was first, theirs stays.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with open(aside, "xb", opener=_for_owner_alone) as file:
            yield file
            file.flush()
            if durable:
                sync_file(file.fileno())
        if keep_existing:
            _put_unless_there(aside, path)
        else:
            os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_whole(
    path: str | os.PathLike[str], content: bytes | str, *, durable: bool = True, keep_existing: bool = False
) -> None:
    with whole_file(path, durable=durable, keep_existing=keep_existing) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_file(fd: int) -> None:
    """Wait until what was written is on the disk."""
    # On macOS fsync() leaves the data in the drive's cache.
    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the folder's entries durable: a rename is not, until its folder is synced."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def _for_owner_alone(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _put_unless_there(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.replace(aside, path)
    aside.unlink(missing_ok=True)
