"""Adapter to django-storages: staged files become checkpoints, and checkpoints become local files again.

Raises StorageUnavailable where the store cannot be reached, BadCheckpoint where a file failed its check:
unreadable is not bad.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from django.core.files import File
from django.core.files.storage import Storage

from training.engine import codec
from training.errors import BadCheckpoint, HeimdallError, StorageUnavailable
from training.models import Checkpoint, checkpoint_storage

logger = logging.getLogger(__name__)
PIECE = 4 * 1024 * 1024


@dataclass(frozen=True)
class StoredCheckpoint:
    """A file that is durable in the store and has no row yet."""

    name: str
    step: int
    epoch: int
    kinds: tuple[str, ...]
    digest: str
    size: int
    file_sha256: str
    val_loss: float | None = None
    about: dict = field(default_factory=dict)


def storage_name(job_id: int, attempt: int, step: int, digest: str, file_sha256: str) -> str:
    """A new key for each attempt, state and file: none is ever overwritten, and one name means one content.

    The same state may be staged twice, as an epoch's checkpoint and as a pause: the files differ in what they tell.
    """
    return f"jobs/{job_id}/a{attempt}/s{step}-{digest[:24]}-{file_sha256[:8]}.safetensors"


def store(staged: dict, *, job_id: int, attempt: int) -> StoredCheckpoint:
    """Take the staged file of a trainer's `staged` message into the store and verify it there."""
    name = storage_name(job_id, attempt, staged["step"], staged["digest"], staged["file_sha256"])
    path = Path(staged["path"])
    stored = StoredCheckpoint(
        name=name,
        step=staged["step"],
        epoch=staged["epoch"],
        kinds=tuple(staged["kinds"]),
        digest=staged["digest"],
        size=staged["size"],
        file_sha256=staged["file_sha256"],
        val_loss=staged.get("val_loss"),
    )
    with unavailable("store", name):
        take(checkpoint_storage(), name, path, size=stored.size)
    return stored


def take(storage: Storage, name: str, path: Path, *, size: int) -> None:
    """Move a local file into a store under a new name; a file of that name is there from an earlier try.

    What was there before is never removed, whatever it is: a row may stand on it.
    """
    if storage.exists(name):
        if storage.size(name) != size:
            raise StorageUnavailable(f"The store holds another file under the name {name}.")
        path.unlink(missing_ok=True)
        return
    if hasattr(storage, "take"):
        storage.take(name, path)
    else:
        with open(path, "rb") as file:
            storage.save(name, File(file))
        path.unlink(missing_ok=True)
    if storage.size(name) != size:
        storage.delete(name)
        raise StorageUnavailable(f"The store holds {name} in another size than was sent; it was removed.")


def fetch(checkpoint: Checkpoint, folder: Path) -> Path:
    """A verified local copy in `folder`, which the caller removes."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"start-{checkpoint.pk}-{uuid.uuid4().hex[:8]}.safetensors"
    try:
        with unavailable("read", checkpoint.file.name):
            _copy(checkpoint, target)
        _verify(checkpoint, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def open_for_download(checkpoint: Checkpoint) -> IO[bytes]:
    with unavailable("read", checkpoint.file.name):
        if not checkpoint_storage().exists(checkpoint.file.name):
            raise BadCheckpoint(f"The file of checkpoint {checkpoint.pk} is missing from the store.")
        return checkpoint_storage().open(checkpoint.file.name, "rb")


def delete_file(name: str) -> None:
    with unavailable("delete", name):
        checkpoint_storage().delete(name)


def stored_names(folder: str = "jobs") -> Iterator[str]:
    """The names of all files in the store, for the sweep of orphans."""
    storage = checkpoint_storage()
    with unavailable("list", folder):
        if not storage.exists(folder):
            return
        folders, files = storage.listdir(folder)
    yield from (f"{folder}/{name}" for name in files)
    for name in folders:
        yield from stored_names(f"{folder}/{name}")


def store_id() -> str:
    """The mark that tells this store from every other; made on first use."""
    storage, name = checkpoint_storage(), "heimdall-store-id"
    with unavailable("read", name):
        if not storage.exists(name):
            from django.core.files.base import ContentFile

            storage.save(name, ContentFile(uuid.uuid4().hex.encode()))
        with storage.open(name, "rb") as file:
            return file.read(64).decode("ascii", "replace").strip()


def _copy(checkpoint: Checkpoint, target: Path) -> None:
    storage = checkpoint_storage()
    if not storage.exists(checkpoint.file.name):
        raise BadCheckpoint(f"The file of checkpoint {checkpoint.pk} is missing from the store.")
    with storage.open(checkpoint.file.name, "rb") as source, open(target, "xb") as file:
        shutil.copyfileobj(source, file, PIECE)


def _verify(checkpoint: Checkpoint, path: Path) -> None:
    if os.path.getsize(path) != checkpoint.size:
        raise BadCheckpoint(
            f"Checkpoint {checkpoint.pk} has {os.path.getsize(path)} bytes, not {checkpoint.size}."
        )
    if sha256(path) != checkpoint.file_sha256:
        raise BadCheckpoint(f"The file of checkpoint {checkpoint.pk} was changed after it was stored.")
    try:
        info = codec.verify(path)
    except codec.BadCheckpoint as error:
        raise BadCheckpoint(f"Checkpoint {checkpoint.pk}: {error}") from error
    if info.digest != checkpoint.digest:
        raise BadCheckpoint(f"Checkpoint {checkpoint.pk} holds another state than its row says.")


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class unavailable:
    """Turn the store's own errors into ours, and let ours pass."""

    def __init__(self, doing: str, name: str):
        self.doing, self.name = doing, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Exception) and not isinstance(error, HeimdallError):
            logger.warning("Could not %s %s: %s", self.doing, self.name, error)
            raise StorageUnavailable(f"The store cannot {self.doing} {self.name} now: {error}") from error
