# Made of asynchronous/downloads.py by `make client`: change it there.
"""Files, whole or not there at all. That of a checkpoint goes on where it broke off, and is checked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from heimdall.client import answers, partial_files
from heimdall.client.errors import DownloadBroken, NotHeimdall
from heimdall.client.shapes import CheckpointFields
from heimdall.client.synchronous.transport import ServerConnection


def download(
    server: ServerConnection,
    checkpoint: CheckpointFields,
    path: Path | None = None,
    progress: Callable[[int], None] = lambda num_bytes: None,
) -> Path:
    """The path of the whole file. What has arrived lies beside it, under a name that holds its digest, until then."""
    target = partial_files.target(checkpoint, path)
    part = target.with_name(f".{target.name}.{checkpoint.digest[:16]}.part")
    left = answers.TRIES
    for delay in answers.delays():
        left -= 1
        try:
            _append(server, checkpoint, part, progress)
            break
        except httpx.TransportError as error:
            if not left:
                raise DownloadBroken(
                    f"The connection broke at byte {partial_files.size(part)} of {checkpoint.size}. Ask again: it "
                    "goes on there."
                ) from error
            time.sleep(delay)
        except OSError as error:
            raise partial_files.not_written(error, part) from error
    partial_files.check(part, checkpoint)
    os.replace(part, target)
    return target


def save(server: ServerConnection, path: str, query: Mapping[str, Any], target: Path) -> Path:
    """An answer as a file, which is there once it is whole."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _write(server, path, query, part)
        os.replace(part, target)
    except httpx.TransportError as error:
        raise DownloadBroken(f"The connection broke: nothing was written to {target}. Ask again.") from error
    except OSError as error:
        raise partial_files.not_written(error, part) from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _write(server: ServerConnection, path: str, query: Mapping[str, Any], part: Path) -> None:
    answer = server.stream(path, {}, query=query)
    try:
        if answer.status_code != 200:
            content = answer.read()
            answers.understood(answer.status_code, answer.headers, content, url=server.url(path))
            raise NotHeimdall(f"{server.url(path)} answered {answer.status_code} in the place of a file.")
        with open(part, "wb") as file:
            for chunk in answer.iter_bytes(2**20):
                file.write(chunk)
    finally:
        answer.close()


def _append(
    server: ServerConnection, checkpoint: CheckpointFields, part: Path, progress: Callable[[int], None]
) -> None:
    have = partial_files.size(part)
    if have > checkpoint.size:
        part.unlink()
        have = 0
    progress(have)
    if have == checkpoint.size:
        return
    path = f"/v1/training/jobs/{checkpoint.job}/checkpoints/{checkpoint.id}/download"
    answer = server.stream(path, {"Range": f"bytes={have}-"} if have else {})
    try:
        if answer.status_code not in {200, 206}:
            content = server.content_of(answer)
            answers.understood(answer.status_code, answer.headers, content, url=server.url(path))
        with open(part, "ab" if answer.status_code == 206 else "wb") as file:
            for chunk in answer.iter_bytes(2**20):
                file.write(chunk)
                progress(file.tell())
    finally:
        answer.close()
