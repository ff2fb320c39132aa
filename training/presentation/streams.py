"""Text that is sent piece by piece, as it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse


def send_pieces(
    request: HttpRequest, pieces: Iterator[str], media_type: str, close: Callable[[], None]
) -> StreamingHttpResponse:
    """close: called when all is sent, or the reader is gone."""
    inner = getattr(request, "_request", request)
    sent = _later(pieces) if isinstance(inner, ASGIRequest) else pieces
    response = StreamingHttpResponse(sent, content_type=media_type)
    response._resource_closers.append(close)
    return response


async def _later(pieces: Iterator[str]) -> AsyncIterator[str]:
    """An async iterator under ASGI, where Django would gather a plain one in memory first."""
    following = sync_to_async(next, thread_sensitive=False)
    while (piece := await following(pieces, None)) is not None:
        yield piece
