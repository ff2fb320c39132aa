"""What a disk may hold after a power cut: a model of files whose writes and names are durable only once synced.

Operations of the code under test are recorded while they really happen. `crashes` then gives every state in which
the disk may be found after a power cut at any moment. Content that was not synced may be there, not there, cut in the
middle, or zeros. A name, a rename or a new folder that was not synced with its folder may have happened or not, in
any combination: no more is promised by POSIX.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

Op = tuple[str, Any, Any]


class Recorder:
    """Notes the operations on files below `root`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        self.root, self.ops = root, list[Op]()
        self._files: dict[int, str] = {}  # descriptor -> inode
        self._real = {
            name: getattr(os, name) for name in ("open", "writev", "fsync", "replace", "rename", "mkdir")
        }
        for name in self._real:
            monkeypatch.setattr(os, name, getattr(self, name))

    def open(self, path, flags, mode=0o777, **options):
        handle = self._real["open"](path, flags, mode, **options)
        self._files.pop(handle, None)
        if flags & os.O_CREAT and self._is_ours(path):
            inode = f"inode {len(self.ops)}"
            self._files[handle] = inode
            self.ops.append(("create", str(path), inode))
        return handle

    def writev(self, handle, buffers):
        place = os.lseek(handle, 0, os.SEEK_CUR)
        count = self._real["writev"](handle, buffers)
        if handle in self._files:
            content = b"".join(bytes(buffer) for buffer in buffers)[:count]
            self.ops.append(("write", self._files[handle], (place, content)))
        return count

    def fsync(self, handle):
        self._real["fsync"](handle)
        path = os.readlink(f"/proc/self/fd/{handle}")
        if handle in self._files:
            self.ops.append(("sync", self._files[handle], None))
        elif self._is_ours(path):
            self.ops.append(("sync folder", path, None))

    def replace(self, source, target, **options):
        self._real["replace"](source, target, **options)
        self.ops.append(("rename", str(source), str(target)))

    rename = replace

    def mkdir(self, path, *arguments, **options):
        self._real["mkdir"](path, *arguments, **options)
        if self._is_ours(path):
            self.ops.append(("folder", str(path), None))

    def _is_ours(self, path) -> bool:
        return str(path).startswith(str(self.root))


def crashes(ops: list[Op]) -> Iterator[dict[str, bytes]]:
    """Every state after a power cut behind these operations: the files by their names."""
    for names in _names(ops):
        inodes = sorted(set(names.values()))
        for contents in itertools.product(*(_contents(ops, inode) for inode in inodes)):
            held = dict(zip(inodes, contents, strict=True))
            yield {path: held[inode] for path, inode in names.items()}


def _names(ops: list[Op]) -> Iterator[dict[str, str]]:
    """Every way in which the operations on names may have come to the disk."""
    changes = [(place, op) for place, op in enumerate(ops) if op[0] in {"create", "rename", "folder"}]
    unsure = [place for place, op in changes if not _is_durable(ops, place)]
    seen = set()
    for chosen in itertools.product((False, True), repeat=len(unsure)):
        left_out = {place for place, happened in zip(unsure, chosen, strict=True) if not happened}
        names = _named([(place, op) for place, op in changes], left_out)
        if (key := tuple(sorted(names.items()))) not in seen:
            seen.add(key)
            yield names


def _named(changes: list[tuple[int, Op]], left_out: set[int]) -> dict[str, str]:
    intended, names, missing = dict[str, str](), dict[str, str](), list[str]()
    for place, (kind, one, two) in changes:
        if kind == "create":
            intended[one] = two
            if place not in left_out:
                names[one] = two
        elif kind == "folder":
            if place in left_out:
                missing.append(f"{one}/")
        else:
            inode = intended.pop(one)
            intended[two] = inode
            if place not in left_out:
                names.pop(one, None)
                names[two] = inode
    return {
        path: inode for path, inode in names.items() if not any(path.startswith(folder) for folder in missing)
    }


def _is_durable(ops: list[Op], place: int) -> bool:
    kind, one, two = ops[place]
    folder = os.path.dirname(two if kind == "rename" else one)
    return ("sync folder", folder, None) in ops[place + 1 :]


def _contents(ops: list[Op], inode: str) -> list[bytes]:
    """What a file may hold: all that was synced, and of the rest all, nothing, a half, or zeros in its place."""
    mine = [(place, op) for place, op in enumerate(ops) if op[1] == inode]
    synced = max((place for place, op in mine if op[0] == "sync"), default=-1)
    writes = [(place, op[2]) for place, op in mine if op[0] == "write"]
    sure = [write for place, write in writes if place < synced]
    rest = [write for place, write in writes if place > synced]
    if not rest:
        return [_written(sure)]
    found = [_written(sure), _written(sure + rest)]
    for number in range(len(rest)):  # one write is lost, zeros, or half there; the others came
        offset, content = rest[number]
        others = rest[:number] + rest[number + 1 :]
        found.append(_written(sure + others))
        found.append(_written([*sure, *others, (offset, bytes(len(content)))]))
        found.append(_written([*sure, *others, (offset, content[: len(content) // 2])]))
    return found


def _written(writes: list[tuple[int, bytes]]) -> bytes:
    content = bytearray()
    for offset, data in writes:
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data
    return bytes(content)
