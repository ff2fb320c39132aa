"""A folder as a store of checkpoints that a power cut cannot tear.

Django's FileSystemStorage writes under the final name and never calls fsync. Here a file appears under its name
whole and durable, or not at all, and a name is never written twice.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

from django.core.files import File
from django.core.files.storage import FileSystemStorage
from django.utils.deconstruct import deconstructible

from heimdall.files import open_regular, sync_folder, whole_file

PIECE = 4 * 1024 * 1024

Check = Callable[[IO[bytes]], bool]
"""Whether a file that is read from its beginning to its end is the one that was meant."""


class Store(Protocol):
    """What Heimdall asks of a storage beside Django's own questions."""

    can_be_shared: bool  # whether another installation may have come upon it

    def take(self, name: str, staged: Path) -> None:
        """Bring a durable local file in under a new name. The local one may stay, or be gone."""

    def holds(self, name: str, *, size: int, check: Check) -> bool:
        """Whether what was taken is what lies there. A store that may keep something else asks the check."""

    def fetch(self, name: str, target: Path) -> None:
        """A copy as a new local file."""

    def names(self, folder: str) -> Iterator[str]:
        """All files below a folder."""

    def free_bytes(self) -> int | None:
        """What is left for more; None where nobody can say."""


@deconstructible(path="training.store.file_system.AtomicFileSystemStorage")
class AtomicFileSystemStorage(FileSystemStorage):
    """FileSystemStorage whose files are written aside, made durable and renamed into place."""

    can_be_shared = False

    def take(self, name: str, staged: Path) -> None:
        """Move a durable staged file to `name`. A rename on one file system, else a durable copy."""
        target = self._new_place(name)
        try:
            os.utime(staged)  # its age counts from here: the sweep of orphaned files spares the young
            os.rename(staged, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with open_regular(staged) as source:
                _write(target, source)
            os.unlink(staged)
        sync_folder(target.parent)

    def holds(self, name: str, *, size: int, check: Check) -> bool:
        """The size tells: a file comes whole or not at all. Its content is checked whenever it is read."""
        return self.size(name) == size

    def free_bytes(self) -> int:
        folder = Path(self.location)
        return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free

    def fetch(self, name: str, target: Path) -> None:
        with self.open(name, "rb") as source, open(target, "xb") as file:
            shutil.copyfileobj(source, file, PIECE)

    def names(self, folder: str) -> Iterator[str]:
        if not self.exists(folder):
            return
        folders, files = self.listdir(folder)
        yield from (f"{folder}/{name}" for name in files)
        for name in folders:
            yield from self.names(f"{folder}/{name}")

    def _open(self, name: str, mode: str = "rb") -> File:
        """For reading alone: what is written is written aside."""
        if mode != "rb":
            raise ValueError("Files in the store are opened for reading; they are written by take and save.")
        return File(io.BufferedReader(open_regular(self.path(name))), name)

    def _save(self, name: str, content: File) -> str:
        target = self._new_place(name)
        content.open("rb")
        _write(target, content)
        return name

    def _new_place(self, name: str) -> Path:
        target = Path(self.path(name))
        missing = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:  # a new folder's entry must be durable too
            sync_folder(folder.parent)
        return target


def _write(target: Path, source) -> None:
    with whole_file(target) as file:
        shutil.copyfileobj(source, file, PIECE)
