"""The code that travels with a job: a folder as one file, named by what is in it.

An archive is a gzipped tar that holds nothing of where and when it was made: entries in order, no owner, no time; one
that `tar czf` made is taken, too. Its digest is a SHA-256 over the manifest, one line for each entry in the order of
their names:

    <kind> <mode> <SHA-256 of the content, or the link's target as JSON> <path as JSON>

so that it depends neither on the compression nor on the machine. What git ignores stays behind; where there is no
git, caches and virtual environments do. Nothing here imports torch or Django: it runs on laptops, too.
"""

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from heimdall.errors import HeimdallError

MAX_BYTES = 64 * 2**20
MAX_FILES = 10_000
LONGEST_PATH = 500
_LONGEST_NAME = 255  # of one folder or file, in bytes: no file system takes more
_MOST_LINKS = 40  # one after the other
# RecursionError: of headers that stand before headers, a thousand times.
_UNREADABLE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
)
_LEFT_BEHIND = {".git", ".hg", ".svn", "__pycache__", ".venv", "venv", "node_modules", ".mypy_cache", ".ruff_cache",
                ".pytest_cache", ".ipynb_checkpoints", ".tox", ".DS_Store", "wandb", "lightning_logs"}  # fmt: skip
_CHUNK = 2**20
_MOST_BYTES_AN_ENTRY = 4_096  # that tar itself needs: headers, padding, a long name


class BadArchive(HeimdallError):
    """A folder cannot travel, or an archive is not what it says it is."""

    code = "bad_code_archive"


@dataclass(frozen=True)
class PackedCode:
    """What a packed folder is."""

    path: Path
    digest: str
    size: int
    """Of the files, unpacked, in bytes."""
    files: int
    commit: str
    """The git commit that it was packed at; empty without git."""
    is_dirty: bool
    """Whether something differs from that commit."""


@dataclass(frozen=True)
class _Entry:
    name: str
    kind: str  # "file" | "link"
    mode: int
    content: str  # SHA-256, or where the link leads

    def line(self) -> str:
        content = json.dumps(self.content) if self.kind == "link" else self.content
        return f"{self.kind} {self.mode:o} {content} {json.dumps(self.name)}\n"


def pack(folder: Path, target: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> PackedCode:
    """Write the folder's code to `target`. Raises BadArchive with what is too large, or may not travel."""
    root = folder.resolve()
    if not root.is_dir():
        raise BadArchive(f"{folder} is not a folder.")
    names = sorted(_names(root))
    if not names:
        raise BadArchive(f"{folder} holds no file that could travel: git ignores all, or it is empty.")
    if len(names) > max_files:
        raise BadArchive(
            f"{folder} holds {len(names)} files; {max_files} may travel. Name what is data in .gitignore."
        )
    _refuse_too_much(root, names, max_bytes)
    entries, size = [], 0
    with (
        open(target, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            entry, length = _add(tar, root, name)
            entries.append(entry)
            size += length
    commit, is_dirty = _git_state(root)
    return PackedCode(target, _digest(entries), size, len(entries), commit, is_dirty)


def unpack(
    archive: Path,
    target: Path,
    *,
    digest: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
) -> None:
    """Unpack into a new folder. Raises BadArchive for another digest, a path or link that leads out, a device, or
    more bytes or files than may be; the folder may then hold a part, and is the caller's to remove."""
    target.mkdir(parents=True)
    entries = []
    for entry, _ in _members(archive, max_bytes=max_bytes, max_files=max_files, into=target):
        entries.append(entry)
    if digest is not None and _digest(entries) != digest:
        raise BadArchive("The code archive is not the one that was meant: its digest differs.")


def examine(
    archive: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES
) -> tuple[str, list[str], int]:
    """Digest, names and bytes of an archive, checked as `unpack` does and with nothing written."""
    found = list(_members(archive, max_bytes=max_bytes, max_files=max_files, into=None))
    return (
        _digest([entry for entry, _ in found]),
        [entry.name for entry, _ in found],
        sum(n for _, n in found),
    )


def read_text(archive: Path, name: str, *, most_bytes: int = 2**20) -> str:
    """One file of an archive, for a page: its first bytes as text. Raises KeyError where there is none."""
    return read_bytes(archive, name, most_bytes=most_bytes).decode(errors="replace")


def read_bytes(archive: Path, name: str, *, most_bytes: int = 2**20) -> bytes:
    """The first bytes of one file of an archive. Raises KeyError where there is none."""
    with tarfile.open(archive, "r:gz") as tar:
        members = {_plain(member.name): member for member in tar}
        found = _led_to(name, members)
        file = tar.extractfile(found) if found is not None and found.isreg() else None
        if file is None:
            raise KeyError(name)
        return file.read(most_bytes)


def _led_to(name: str, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The entry of this name, or the one that its links lead to: they may lead in a circle."""
    found = members.get(name)
    for _ in range(_MOST_LINKS):
        if found is None or not found.issym():
            break
        name = os.path.normpath(os.path.join(os.path.dirname(name), found.linkname))
        found = members.get(name)
    return found


def of_one_file(name: str, content: bytes) -> bytes:
    """The archive of a folder that holds this file alone."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "code"
        folder.mkdir()
        (folder / name).write_bytes(content)
        return pack(folder, Path(place) / "code.tar.gz").path.read_bytes()


def _names(root: Path) -> list[str]:
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is not None:
        names = [name for name in listed.split("\0") if name]
        return [name for name in names if os.path.lexists(root / name) and not _is_folder(root / name)]
    return list(_walked(root))


def _walked(root: Path) -> Iterator[str]:
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _LEFT_BEHIND)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in [*files, *links]:
            if name not in _LEFT_BEHIND:
                yield (Path(place) / name).relative_to(root).as_posix()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _refuse_too_much(root: Path, names: list[str], max_bytes: int) -> None:
    sizes = {name: (root / name).lstat().st_size for name in names}
    if sum(sizes.values()) > max_bytes:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        shown = ", ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in largest)
        raise BadArchive(
            f"The code is {sum(sizes.values()) / 1e6:.1f} MB; {max_bytes / 1e6:.0f} MB may travel. The largest "
            f"files: {shown}. Data stays where it is: name it in .gitignore."
        )


def _add(tar: tarfile.TarFile, root: Path, name: str) -> tuple[_Entry, int]:
    path = root / name
    if why := _why_not_named(name):
        raise BadArchive(f"The path {name[:60]!r} {why}: rename it.")
    info = tarfile.TarInfo(name)
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        leads_to = os.readlink(path)
        if _leads_out(name, leads_to) or not _ends_below(root, path.parent / leads_to):
            raise BadArchive(
                f"{name} is a link that leads out of the folder: replace it by what it leads to."
            )
        if _turns_back(leads_to):
            raise BadArchive(f"{name} is a link with .. behind a name: let it lead there straight.")
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, leads_to, 0o777
        tar.addfile(info)
        return _Entry(name, "link", 0o777, leads_to), 0
    if not stat.S_ISREG(found.st_mode):
        raise BadArchive(f"{name} is neither a file nor a link.")
    info.mode = 0o755 if found.st_mode & 0o100 else 0o644
    data = path.read_bytes()
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    return _Entry(name, "file", info.mode, hashlib.sha256(data).hexdigest()), len(data)


def _members(
    archive: Path, *, max_bytes: int, max_files: int, into: Path | None
) -> Iterator[tuple[_Entry, int]]:
    """Each entry, checked, and written where a folder is given."""
    room, seen, folders = max_bytes, set[str](), set[str]()
    try:
        with _unzipped(archive, max_bytes, max_files) as plain, tarfile.open(fileobj=plain, mode="r:") as tar:
            for number, member in enumerate(tar):
                if number >= max_files:
                    raise BadArchive(f"The code archive holds more than {max_files} files.")
                _refuse_bad_member(member)
                if member.isdir():
                    continue  # each file makes the folders that it needs
                member.name = _plain(member.name)
                if member.name in seen:
                    raise BadArchive(f"The code archive names {member.name[:100]!r} twice.")
                seen.add(member.name)
                member.mtime = (
                    0  # as `pack` has it: it is no part of what is in it, and may be no time at all
                )
                folders.update(_folders_of(member.name))
                if member.name in folders or not seen.isdisjoint(_folders_of(member.name)):
                    raise BadArchive(
                        f"The code archive names {member.name[:100]!r} as a file and as a folder."
                    )
                if member.issym():
                    if into is not None:
                        tar.extract(member, into, filter="data")
                    yield _Entry(member.name, "link", 0o777, member.linkname), 0
                    continue
                room -= member.size
                if room < 0:
                    raise BadArchive(f"The code archive holds more than {max_bytes / 1e6:.0f} MB.")
                member.mode = 0o755 if member.mode & 0o100 else 0o644
                yield _Entry(member.name, "file", member.mode, _content(tar, member, into)), member.size
            if not seen:
                raise BadArchive("The code archive holds no file.")
    except _UNREADABLE as error:
        raise BadArchive(f"The code archive cannot be read: {error}.") from error


def _unzipped(archive: Path, max_bytes: int, max_files: int) -> IO[bytes]:
    """The tar of an archive as a file of its own. A few kilobytes may unzip to any size, and to a header that is
    read in one piece: no more is unzipped than such an archive may have. And tar goes back in what it reads."""
    room = max_bytes + max_files * _MOST_BYTES_AN_ENTRY
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    try:
        with gzip.open(archive) as zipped:
            while chunk := zipped.read(_CHUNK):
                room -= len(chunk)
                if room < 0:
                    raise BadArchive(f"The code archive holds more than {max_bytes / 1e6:.0f} MB.")
                plain.write(chunk)
    except BaseException:
        plain.close()
        raise
    plain.seek(0)
    return plain


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path | None) -> str:
    """The SHA-256 of a member, which is written on the way."""
    if into is not None:
        tar.extract(member, into, filter="data")
    source = tar.extractfile(member)
    assert source is not None
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _refuse_bad_member(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    is_named = bool(path.parts) or member.isdir()
    if path.is_absolute() or ".." in path.parts or not is_named:
        raise BadArchive(f"The code archive names a path that leads out of it: {member.name[:100]!r}.")
    if why := _why_not_named(member.name):
        raise BadArchive(f"The code archive names a path that {why}: {member.name[:100]!r}.")
    if not (member.isreg() or member.issym() or member.isdir()) or member.size < 0:
        raise BadArchive(f"The code archive holds something that is no file: {member.name[:100]!r}.")
    if member.issym() and (_leads_out(member.name, member.linkname) or _turns_back(member.linkname)):
        raise BadArchive(f"The code archive holds a link that leads out of it: {member.name[:100]!r}.")


def _why_not_named(path: str) -> str:
    """Why no worker's disk, database, address or terminal could hold this path; empty where they can."""
    if any("\ud800" <= sign <= "\udfff" for sign in path):
        return "is no text in UTF-8"
    if any(sign < " " or "\x7f" <= sign < "\xa0" for sign in path):
        return "holds a line break or another sign that nobody sees"
    if len(path) > LONGEST_PATH or any(len(name.encode()) > _LONGEST_NAME for name in path.split("/")):
        return f"is longer than {LONGEST_PATH} characters, or a name in it than {_LONGEST_NAME} bytes"
    return ""


def _folders_of(path: str) -> list[str]:
    return [str(folder) for folder in PurePosixPath(path).parents][:-1]


def _leads_out(name: str, leads_to: str) -> bool:
    end = os.path.normpath(os.path.join(os.path.dirname(name), leads_to))
    return os.path.isabs(leads_to) or end.split("/")[0] == ".." or bool(_why_not_named(leads_to))


def _turns_back(leads_to: str) -> bool:
    """Whether it goes up after it went down: what it went down by may be another link, and up from there is out."""
    parts = PurePosixPath(leads_to).parts
    return ".." in parts[next((i for i, part in enumerate(parts) if part != ".."), len(parts)) :]


def _ends_below(root: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (RuntimeError, OSError):  # links in a circle
        return False


def _plain(name: str) -> str:
    """As this module writes names itself: other programs begin them with ./"""
    return PurePosixPath(name).as_posix()


def _digest(entries: list[_Entry]) -> str:
    lines = [entry.line() for entry in sorted(entries, key=lambda entry: entry.name)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _git_state(root: Path) -> tuple[str, bool]:
    commit = (_git(root, "rev-parse", "HEAD") or "").strip()
    return commit, bool(commit) and bool((_git(root, "status", "--porcelain", "--", ".") or "").strip())


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None where there is no git, or the folder is in no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
