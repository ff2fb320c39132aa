"""Sending a checkpoint's file: in pieces, with what names it, from where an earlier download broke off.

A store that answers browsers itself is asked for an address that holds for five minutes, and the reader is sent
there: who may have the file was decided before.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import IO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase

from training.models import Checkpoint
from training.store import checkpoints

PIECE = 1024 * 1024
MEDIA_TYPE = "application/vnd.safetensors"
_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})?")


def send(request: HttpRequest, checkpoint: Checkpoint) -> HttpResponseBase:
    """The whole file, or the part that a `Range` header asks for; or the way to it."""
    is_head = request.method == "HEAD"
    if not is_head and (link := _link(checkpoint)):
        headers = {"Cache-Control": "private, no-store", "X-Checkpoint-Digest": checkpoint.digest}
        return HttpResponseRedirect(link, headers=headers)
    start, end, status = _part(request, checkpoint)
    if status == 416:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{checkpoint.size}"})
    if is_head:
        response: HttpResponseBase = HttpResponse(content_type=MEDIA_TYPE, status=status)
    else:
        response = stream(request, checkpoints.open_for_download(checkpoint), start, end, status)
    for name, value in _headers(checkpoint, start, end, status).items():
        response[name] = value
    return response


def _link(checkpoint: Checkpoint) -> str | None:
    return checkpoints.link_for_download(checkpoint, file_name=_file_name(checkpoint), media_type=MEDIA_TYPE)


def _part(request: HttpRequest, checkpoint: Checkpoint) -> tuple[int, int, int]:
    """First byte, the byte after the last, and the status. A range that cannot be read is ignored, as HTTP asks."""
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    changed = request.headers.get("If-Range", _etag(checkpoint)) != _etag(checkpoint)
    if not match or changed:
        return 0, checkpoint.size, 200
    start = int(match[1])
    end = min(int(match[2]) + 1, checkpoint.size) if match[2] else checkpoint.size
    return start, end, 206 if start < end else 416


def _headers(checkpoint: Checkpoint, start: int, end: int, status: int) -> dict[str, str]:
    headers = {
        "Content-Length": str(end - start),
        "Content-Disposition": f'attachment; filename="{_file_name(checkpoint)}"',
        "ETag": _etag(checkpoint),
        "X-Checkpoint-Digest": checkpoint.digest,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store, no-transform",
    }
    return headers | (
        {"Content-Range": f"bytes {start}-{end - 1}/{checkpoint.size}"} if status == 206 else {}
    )


def _file_name(checkpoint: Checkpoint) -> str:
    return f"job-{checkpoint.job_id}-step-{checkpoint.step}-{checkpoint.digest[:12]}.safetensors"


def _etag(checkpoint: Checkpoint) -> str:
    """Names the content. A row without has one file for ever, too: its digest tells it from other rows' files."""
    return f'"{checkpoint.header_sha256 or checkpoint.digest}"'


def stream(request: HttpRequest, file: IO[bytes], start: int, end: int, status: int) -> StreamingHttpResponse:
    """An async iterator under ASGI, where Django would gather a plain one in memory first."""
    file.seek(start)
    inner = getattr(request, "_request", request)
    pieces = (
        _async_pieces(file, end - start) if isinstance(inner, ASGIRequest) else _pieces(file, end - start)
    )
    response = StreamingHttpResponse(pieces, content_type=MEDIA_TYPE, status=status)
    response._resource_closers.append(file.close)
    return response


def _pieces(file: IO[bytes], left: int) -> Iterator[bytes]:
    while left > 0 and (piece := file.read(min(PIECE, left))):
        left -= len(piece)
        yield piece


async def _async_pieces(file: IO[bytes], left: int) -> AsyncIterator[bytes]:
    read = sync_to_async(file.read, thread_sensitive=False)
    while left > 0 and (piece := await read(min(PIECE, left))):
        left -= len(piece)
        yield piece
