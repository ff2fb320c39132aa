"""Adapter to the store of code: an archive is kept once under its digest, and comes to a trainer as a folder.

Raises BadArchive for what is no archive of code, StorageUnavailable where the store cannot be reached, BadCode where
an archive that was stored is missing or is not what it was.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from django.conf import settings

from heimdall import code_archive
from heimdall.errors import HeimdallError
from heimdall.files import sync_file
from training.models import CodeArchive, code_storage
from training.store.checkpoints import take, unavailable
from training.store.datasets import is_file
from training.store.file_system import Store

FOLDER = "archives"


class BadCode(HeimdallError):
    """The code of a job is missing from the store, or is not what was stored."""

    code = "bad_code"


@dataclass(frozen=True)
class ExaminedCode:
    """An archive on this machine that was looked through: it can be unpacked, and this is what it holds."""

    path: Path
    digest: str
    names: list[str]
    size: int


@contextmanager
def received(source: IO[bytes]) -> Iterator[ExaminedCode]:
    """What somebody sends, on this machine for as long as the block lasts. Raises BadArchive."""
    settings.STAGING_DIR.mkdir(0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="code-", dir=settings.STAGING_DIR) as folder:
        path = Path(folder) / "code.tar.gz"
        with open(path, "xb") as file:
            _copy(source, file)
            file.flush()
            sync_file(file.fileno())
        yield examined(path)


def examined(path: Path) -> ExaminedCode:
    digest, names, size = code_archive.examine(path, max_bytes=max_bytes())
    return ExaminedCode(path, digest, names, size)


def max_bytes() -> int:
    """How large the code of one program may be, unpacked."""
    return int(settings.CODE_MB) * 10**6


def most_packed_bytes() -> int:
    """How large an archive may be as it is sent: files that cannot be packed grow a little."""
    return max_bytes() + max_bytes() // 100 + 2**20


def store(code: ExaminedCode) -> tuple[str, int]:
    """Take the archive into the store. Returns its name there, which no other archive ever has, and its bytes."""
    name, size = f"{FOLDER}/{code.digest}-{uuid.uuid4().hex[:12]}.tar.gz", code.path.stat().st_size
    with open(code.path, "rb") as file:
        sha256 = _sha256(file)
    with unavailable("store", name):
        take(code_storage(), name, code.path, size=size, check=is_file(sha256))
    return name, size


def bring(code: CodeArchive, folder: Path) -> Path:
    """The code as a folder below this one, checked against its digest. One that is there already stays."""
    target = folder / code.digest
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{code.digest}.{uuid.uuid4().hex}"
    try:
        with local_copy(code, folder) as archive:
            # What was let in stays good, whatever HEIMDALL_CODE_MB says by now.
            code_archive.unpack(archive, aside, digest=code.digest, max_bytes=max(code.size, 1))
        aside.rename(target)
    except code_archive.BadArchive as error:
        raise BadCode(f"The code {code} is not what was stored: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


@contextmanager
def local_copy(code: CodeArchive, folder: Path) -> Iterator[Path]:
    copy = folder / f".{code.digest}.{uuid.uuid4().hex}.tar.gz"
    try:
        with unavailable("read", code.file_name):
            _require_file(code)
            cast(Store, code_storage()).fetch(code.file_name, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def open_for_download(code: CodeArchive) -> IO[bytes]:
    with unavailable("read", code.file_name):
        _require_file(code)
        return code_storage().open(code.file_name, "rb")


def text_of(code: CodeArchive, name: str) -> str:
    """The beginning of one of its files; empty where a link leads to none."""
    return bytes_of(code, name, most_bytes=2**20).decode(errors="replace")


def bytes_of(code: CodeArchive, name: str, *, most_bytes: int | None = None) -> bytes:
    """One of its files, or the beginning of it; empty where a link leads to none."""
    settings.SCRATCH_DIR.mkdir(0o700, parents=True, exist_ok=True)
    with local_copy(code, settings.SCRATCH_DIR) as archive:
        try:
            return code_archive.read_bytes(archive, name, most_bytes=most_bytes or max(code.size, 1))
        except KeyError:
            return b""


def delete_file(name: str) -> None:
    with unavailable("delete", name):
        code_storage().delete(name)


def stored_names() -> Iterator[str]:
    """The names of all archives in the store, for the sweep of those without a row."""
    with unavailable("list", FOLDER):
        yield from cast(Store, code_storage()).names(FOLDER)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    room = most_packed_bytes()
    while piece := source.read(2**20):
        room -= len(piece)
        if room < 0:
            raise code_archive.BadArchive(f"The code archive is larger than {max_bytes() / 1e6:.0f} MB.")
        target.write(piece)


def _require_file(code: CodeArchive) -> None:
    if not code_storage().exists(code.file_name):
        raise BadCode(f"The code {code} is missing from the store.")


def _sha256(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
