"""The folder in which a command keeps its own checkpoints, as one part of ours.

Its complete files travel as bytes in Heimdall's checkpoint, so that they are kept, stored, carried to other hosts
and written back as a recipe's state is. A name that ends in .part or .tmp is of a file that is being written. Links
inside of the folder travel as links; what leads out of it is refused.
"""

import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from heimdall.engine.errors import Refused

MOST_BYTES = 8 * 2**30  # they pass through memory, twice
MOST_FILES = 10_000
BEING_WRITTEN = (".part", ".tmp")

Signature = tuple[int, int, int]
"""Size, time of the last change in nanoseconds, and inode: a file that was written again has another one."""


class NotTaken(Exception):
    """The folder's files cannot be taken into a checkpoint now. The sentence says why."""


class CheckpointFolder:
    def __init__(
        self, path: Path, *, root: Path, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES
    ) -> None:
        """Make the folder, which is to lie below root and to be none that root lies in."""
        self._path, self._most_bytes, self._most_files = path, most_bytes, most_files
        self._held: dict[str, Any] | None = None
        real, real_root = path.resolve(), root.resolve()
        if real == real_root or not real.is_relative_to(real_root):
            raise Refused(
                "bad_checkpoint_folder",
                f"The checkpoint folder {path.name or '.'!r} is not a folder of its own below the one in which the "
                "command is started: name one, such as checkpoints.",
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            sentence = f"The checkpoint folder {path.name!r} cannot be made: there is a file of that name."
            raise Refused("bad_checkpoint_folder", sentence) from error
        self._real = real
        self._came_with_the_code = set(self.look())

    def look(self) -> dict[str, Signature]:
        """The complete files, by their names below the folder."""
        found: dict[str, Signature] = {}
        if self._is_replaced():
            return found
        for name, entry in _walked(self._path):
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # renamed or deleted meanwhile
                continue
            if stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
                found[name] = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
        return found

    def take(self, only: Iterable[str] | None = None) -> None:
        """Hold what the files are now, until `drop`. Raises NotTaken where they are too much, or change meanwhile."""
        if self._is_replaced():
            raise NotTaken(self._replaced())
        seen = self.look()
        if only is not None:
            seen = {name: seen[name] for name in only if name in seen}
        self._require_room(seen)
        held: dict[str, Any] = {"files": {}, "links": {}}
        # Which one is the newest is often all that a command goes by.
        for name in sorted(seen, key=lambda name: (seen[name][1], name)):
            path = self._path / name
            try:
                if path.is_symlink():
                    held["links"][name] = self._target_of(path)
                else:
                    held["files"][name] = _read(path, seen[name])
            except OSError as error:
                raise NotTaken(f"{name} cannot be read: {error.strerror}") from error
        self._held = held | {"order": list(held["files"])}

    def drop(self) -> None:
        """Let go of the memory."""
        self._held = None

    def state_dict(self) -> dict[str, Any]:
        return self._held or {"files": {}, "links": {}, "order": []}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the folder what it was, with nothing else in it, and hold what is on the disk then."""
        self.put_back(state)
        self.take()

    def put_back(self, state: dict[str, Any]) -> None:
        """Where it holds nothing, the folder becomes what it was before the command was started."""
        if self._is_replaced():
            raise Refused("bad_checkpoint_folder", f"{self._replaced()}.")
        names = [*state["files"], *state["links"]]
        for name in names:
            _refuse_name_that_leads_out(name)
        for name, entry in list(_walked(self._path, with_unfinished=True)):
            if names or name not in self._came_with_the_code:
                os.unlink(entry.path)
        for name in [*state["order"], *sorted(state["files"].keys() - set(state["order"]))]:
            path = self._path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(memoryview(state["files"][name].numpy()))
        for name, target in state["links"].items():
            path = self._path / name
            _refuse_name_that_leads_out(os.path.normpath(os.path.join(os.path.dirname(name), target)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        begin = time.time() - len(state["order"])
        for number, name in enumerate(state["order"]):
            os.utime(self._path / name, (begin + number, begin + number))

    def _is_replaced(self) -> bool:
        """A link in its place may lead to what is not the job's: that is neither read nor emptied."""
        is_other = self._path.exists() and not self._path.is_dir()
        return is_other or self._path.resolve() != self._real

    def _replaced(self) -> str:
        return (
            f"something else was put into the place of the checkpoint folder {self._path.name}, such as a link: let "
            "the command write into the folder that it finds"
        )

    def _require_room(self, seen: dict[str, Signature]) -> None:
        size = sum(size for size, _, _ in seen.values())
        if size > self._most_bytes or len(seen) > self._most_files:
            raise NotTaken(
                f"the folder {self._path.name} holds {len(seen)} files with {size / 1e9:.3g} GB, and "
                f"{self._most_files} files with {self._most_bytes / 1e9:.3g} GB can be kept: let the command delete "
                "its older checkpoints"
            )
        for name in seen:
            if not name.isprintable() or len(name.encode("utf-8", "surrogateescape")) > 1_000:
                raise NotTaken(f"the name {name[:100]!r} cannot be kept: use plain letters in it")

    def _target_of(self, path: Path) -> str:
        target = os.readlink(path)
        real = Path(os.path.normpath(path.parent / target))
        if os.path.isabs(target) or not real.is_relative_to(self._path):
            raise NotTaken(f"{path.name} is a link that leads out of the folder {self._path.name}")
        return target


def _walked(
    folder: Path, prefix: str = "", *, with_unfinished: bool = False
) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):  # deleted meanwhile
        return
    for entry in entries:
        if entry.name.endswith(BEING_WRITTEN) and not with_unfinished:
            continue
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walked(folder / entry.name, f"{name}/", with_unfinished=with_unfinished)
        else:
            yield name, entry


def _read(path: Path, expected: Signature) -> Tensor:
    """The bytes of a file that is the one that was seen, before and after."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:
        content = torch.empty(expected[0], dtype=torch.uint8)
        view, begin = memoryview(content.numpy()), 0  # type: ignore[arg-type]
        while begin < len(view) and (length := file.readinto(view[begin:])):
            begin += length
        facts = os.fstat(file.fileno())
        if begin < len(view) or (facts.st_size, facts.st_mtime_ns, facts.st_ino) != expected:
            raise NotTaken(f"{path.name} is being written")
    return content


def _refuse_name_that_leads_out(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise Refused(
            "bad_checkpoint", f"The checkpoint names a file that leads out of its folder: {name[:100]!r}."
        )
