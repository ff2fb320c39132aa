"""Adapter to django-storages: staged files become checkpoints, and checkpoints become local files again.

Raises StorageUnavailable where the store cannot be reached, BadCheckpoint where a file failed its check:
unreadable is not bad.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, cast

from django.core.files.base import ContentFile

from heimdall import codec
from heimdall.errors import HeimdallError
from heimdall.files import NotRegularFile, open_regular
from heimdall.trainer.protocol import StagedCheckpoint
from training.errors import BadCheckpoint, StorageRefused, StorageUnavailable
from training.models import Checkpoint, checkpoint_storage
from training.store.file_system import Check, Store

logger = logging.getLogger(__name__)
MARK = "heimdall-store-id"
MOST_NAMES = 10  # tried for one file


@dataclass(frozen=True)
class StoredCheckpoint:
    """A file that is durable in the store and has no row yet."""

    staged: StagedCheckpoint
    name: str
    seconds: float = 0.0  # that moving it into the store took


class NameTaken(StorageUnavailable):
    """Something else lies under the name, and it is not ours to remove."""

    code = "name_taken"


def storage_names(job_id: int, attempt: int, step: int, digest: str, header_sha256: str) -> Iterator[str]:
    """A new key for each attempt, state and file: none is ever overwritten, and one name means one content.

    The same state may be staged twice, as an epoch's checkpoint and as a pause: the files differ in what they tell.
    The further names are for what broke off half way and left a damaged file under the first.
    """
    stem = f"jobs/{job_id}/a{attempt}/s{step}-{digest[:24]}-{header_sha256[:8]}"
    yield f"{stem}.safetensors"
    yield from (f"{stem}-{number}.safetensors" for number in count(2))


def store(staged: StagedCheckpoint, *, job_id: int, attempt: int) -> StoredCheckpoint:
    """Take the staged file of a trainer into the store and verify it there."""
    names = storage_names(job_id, attempt, staged.step, staged.digest, staged.header_sha256)
    check = is_checkpoint(staged.size, staged.header_sha256)
    name = keep(checkpoint_storage(), names, Path(staged.path), size=staged.size, check=check)
    return StoredCheckpoint(staged, name)


def is_checkpoint(size: int, header_sha256: str) -> Check:
    """Whether a stream is this very file: every bit of it is checked, with the memory of a few pieces."""

    def check(file: IO[bytes]) -> bool:
        try:
            return codec.verify_stream(file, size).header_sha256 == header_sha256
        except codec.InvalidCheckpoint:
            return False

    return check


def keep(storage: Any, names: Iterator[str], path: Path, *, size: int, check: Check) -> str:
    """Move a local file into a store under the first name that is free or has it already. Returns the name."""
    for name, _ in zip(names, range(MOST_NAMES), strict=False):
        try:
            with unavailable("store", name):
                take(storage, name, path, size=size, check=check)
            return name
        except NameTaken as error:
            taken = error
    raise taken


def take(storage: Any, name: str, path: Path, *, size: int, check: Check) -> None:
    """Move a local file into a store under a new name; a file of that name is there from an earlier try.

    What was there before is never removed, whatever it is: a row may stand on it.
    """
    is_new = not storage.exists(name)
    if is_new:
        open_regular(path).close()  # a link would lead the store elsewhere, a pipe would hold it up
        storage.take(name, path)
    if not storage.holds(name, size=size, check=check):
        if not is_new:
            raise NameTaken(f"The store holds another file under the name {name}.")
        storage.delete(name)
        raise StorageUnavailable(f"The store holds {name} otherwise than it was sent; it was removed.")
    path.unlink(missing_ok=True)


def fetch(checkpoint: Checkpoint, folder: Path) -> Path:
    """A verified local copy in `folder`, which the caller removes."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"start-{checkpoint.pk}-{uuid.uuid4().hex[:8]}.safetensors"
    try:
        with unavailable("read", checkpoint.file_name):
            _require_file(checkpoint)
            _store().fetch(checkpoint.file_name, target)
        _verify(checkpoint, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def parts_in(path: Path) -> list[str]:
    """The names of the parts that a verified local copy holds."""
    return codec.part_names(path)


def header_sha256(path: Path) -> str:
    """What names the file of a verified local copy."""
    return codec.header_sha256(path)


def look_into(path: Path) -> codec.FileInfo:
    """Check any checkpoint or bundle on this machine, every bit of it, and tell what it is."""
    try:
        return codec.verify(path.resolve())  # by hand, a link is fine
    except codec.InvalidCheckpoint as error:
        raise BadCheckpoint(f"{path} is no checkpoint, or is damaged: {error}.") from error


def open_for_download(checkpoint: Checkpoint) -> IO[bytes]:
    with unavailable("read", checkpoint.file_name):
        _require_file(checkpoint)
        return checkpoint_storage().open(checkpoint.file_name, "rb")


def tensor_hashes(checkpoint: Checkpoint) -> dict[str, str]:
    """Tensor -> SHA-256, as the header of the stored file has it: no more of the file is read."""
    with open_for_download(checkpoint) as file:
        try:
            return codec.tensor_hashes_in(file, checkpoint.size)
        except codec.InvalidCheckpoint as error:
            raise BadCheckpoint(f"Checkpoint {checkpoint.pk}: {error}") from error


def link_for_download(checkpoint: Checkpoint, *, file_name: str, media_type: str) -> str | None:
    """An address for a short time, where the store answers browsers itself; None where it does not."""
    storage = checkpoint_storage()
    if not hasattr(storage, "link"):
        return None
    with unavailable("read", checkpoint.file_name):
        _require_file(checkpoint)
        return storage.link(checkpoint.file_name, file_name=file_name, media_type=media_type)


def delete_file(name: str) -> None:
    with unavailable("delete", name):
        checkpoint_storage().delete(name)


def stored_names(folder: str = "jobs") -> Iterator[str]:
    """The names of all files in the store, for the sweep of orphans."""
    with unavailable("list", folder):
        yield from _store().names(folder)


def mark() -> str:
    """What tells this store from every other; empty where it was never marked."""
    storage = checkpoint_storage()
    with unavailable("read", MARK):
        if not storage.exists(MARK):
            return ""
        with storage.open(MARK, "rb") as file:
            return file.read(64).decode("ascii", "replace").strip()


def leave_mark(text: str) -> str:
    """Mark the store, where it is not marked yet. Returns its mark."""
    if not mark():
        with unavailable("mark", MARK):
            checkpoint_storage().save(MARK, ContentFile(text.encode()))
    return mark()


def free_bytes() -> int | None:
    """What the store's disk has left; None where that cannot be known, as of a bucket."""
    return _store().free_bytes()


def can_be_shared() -> bool:
    """Whether the store may be another installation's too."""
    return _store().can_be_shared


def _store() -> Store:
    return cast(Store, checkpoint_storage())


def _require_file(checkpoint: Checkpoint) -> None:
    if checkpoint_storage().exists(checkpoint.file_name):
        return
    # A disk that is not mounted has no file of any checkpoint, and none of them is lost.
    if not mark():
        raise StorageUnavailable(
            f"The store has neither {checkpoint.file_name} nor its own mark {MARK}. Is its disk mounted?"
        )
    raise BadCheckpoint(f"The file of checkpoint {checkpoint.pk} is missing from the store.")


def _verify(checkpoint: Checkpoint, path: Path) -> None:
    if os.path.getsize(path) != checkpoint.size:
        raise BadCheckpoint(
            f"Checkpoint {checkpoint.pk} has {os.path.getsize(path)} bytes, not {checkpoint.size}."
        )
    try:
        info = codec.verify(path)
    except codec.InvalidCheckpoint as error:
        raise BadCheckpoint(f"Checkpoint {checkpoint.pk}: {error}") from error
    if checkpoint.header_sha256 not in ("", info.header_sha256):
        raise BadCheckpoint(f"The file of checkpoint {checkpoint.pk} was changed after it was stored.")
    if info.digest != checkpoint.digest:
        raise BadCheckpoint(f"Checkpoint {checkpoint.pk} holds another state than its row says.")


class unavailable:
    """Turn the store's own errors into ours, and let ours pass."""

    def __init__(self, doing: str, name: str, *, bad: type[HeimdallError] = BadCheckpoint):
        self.doing, self.name, self.bad = doing, name, bad

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, NotRegularFile):
            raise self.bad(f"The store cannot {self.doing} {self.name}: {error}.") from error
        if isinstance(error, Exception) and not isinstance(error, HeimdallError):
            logger.warning("Could not %s %s: %s", self.doing, self.name, error)
            kind = StorageRefused if isinstance(error, PermissionError) else StorageUnavailable
            raise kind(f"The store cannot {self.doing} {self.name} now: {error}") from error
