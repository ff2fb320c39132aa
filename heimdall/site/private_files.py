"""What Heimdall writes is for its own account alone: database, checkpoints, logs, secrets, whatever the umask."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

OTHERS = 0o077
WALK_SECONDS = 2.0
logger = logging.getLogger(__name__)


def hide_new_files() -> None:
    """For this process and all that it starts, trainers too. A program may set another umask for what it shares."""
    os.umask(os.umask(OTHERS) | OTHERS)


def close_to_others(folder: Path) -> None:
    """Take from others what an earlier umask left them. Below a closed folder nothing can be reached; the folders in
    there are closed all the same, for whoever opens the outer one for a group some day."""
    for path in open_to_others(folder):
        mode = stat.S_IMODE(path.stat().st_mode)
        try:
            path.chmod(mode & ~OTHERS)
        except OSError as error:
            logger.warning("%s can be used by other accounts (mode %03o): %s", path, mode, error.strerror)
        else:
            logger.warning("%s could be used by other accounts (mode %03o); it is closed now", path, mode)
    if not _is_shared(folder):
        _close_folders_below(folder)


def open_to_others(folder: Path) -> list[Path]:
    """The folder, and what lies in it directly, where another account of this machine may read or write it."""
    if _is_shared(folder):
        return []
    return [path for path in _folder_and_entries(folder) if path.lstat().st_mode & OTHERS]


def _close_folders_below(folder: Path) -> None:
    """Those alone, and within WALK_SECONDS: a store may hold a million files."""
    deadline, closed = time.monotonic() + WALK_SECONDS, 0
    for path, mode in _folders_below(folder):
        if mode & OTHERS:
            with contextlib.suppress(OSError):  # somebody else's, or gone by now
                path.chmod(mode & ~OTHERS)
                closed += 1
        if time.monotonic() > deadline:
            break
    if closed:
        logger.warning("%d folders below %s were open to other accounts; they are closed now", closed, folder)


def _folders_below(folder: Path) -> Iterator[tuple[Path, int]]:
    for place, names, _ in os.walk(folder):  # follows no link
        for name in names:
            path = Path(place, name)
            with contextlib.suppress(OSError):
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode):
                    yield path, stat.S_IMODE(mode)


def _is_shared(folder: Path) -> bool:
    """A folder like / or /tmp, which must not be closed, is nobody's alone. Give Heimdall one of its own."""
    return folder == Path(folder.anchor) or bool(folder.stat().st_mode & stat.S_ISVTX)


def _folder_and_entries(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (path for path in sorted(folder.iterdir()) if not path.is_symlink())
