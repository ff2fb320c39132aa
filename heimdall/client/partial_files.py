"""A file that has arrived in part, and what is made of it at the end."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from heimdall import codec
from heimdall.client.errors import DownloadBroken, NotHeimdall
from heimdall.client.shapes import CheckpointFields


def target(checkpoint: CheckpointFields, path: Path | None) -> Path:
    """Where the file will lie. Its name is made of what a server says, which must not lead elsewhere."""
    numbers = (checkpoint.id, checkpoint.job, checkpoint.step, checkpoint.size)
    if not all(type(one) is int and one >= 0 for one in numbers) or not _is_digest(checkpoint.digest):
        raise NotHeimdall("The server describes a checkpoint as Heimdall does not: nothing is downloaded.")
    name = f"job-{checkpoint.job}-step-{checkpoint.step}.safetensors"
    if path is None:
        return Path(name)
    return path / name if path.is_dir() else path


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[0-9a-zA-Z]{16,200}", text) is not None


def size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def not_written(error: OSError, part: Path) -> DownloadBroken:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        part.unlink(missing_ok=True)
        return DownloadBroken(
            f"There is no room left in {part.parent.resolve()}; what had arrived was removed."
        )
    return DownloadBroken(f"{part.parent.resolve()} cannot be written: {error.strerror or error}.")


def check(part: Path, checkpoint: CheckpointFields) -> None:
    try:
        codec.verify(part, digest=checkpoint.digest)
    except codec.InvalidCheckpoint as error:
        part.unlink(missing_ok=True)
        raise DownloadBroken(
            f"The file did not pass its check ({error}) and was removed. Ask again."
        ) from error
