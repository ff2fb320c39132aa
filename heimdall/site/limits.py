"""A request's body is bounded before anything reads it; only code that programmers bring may be larger.

Django would spool the body to a temporary file before the first middleware sees the request, whoever sends it.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings

from heimdall.site.prefix import bare_path

MostBytes = Callable[[dict[str, Any]], int]
Application = Callable[[dict[str, Any], Callable, Callable], Awaitable[None]]


def most_bytes() -> int:
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def bounded_bodies(
    application: Application, *, most_upload_bytes: MostBytes = lambda scope: 0
) -> Application:
    """Answer 413 to a request whose body is too large, by its declared length or by what comes.

    most_upload_bytes: how much this request may have where that is more; asked in a thread, for it may ask the
    database who is there.
    """
    ask = sync_to_async(most_upload_bytes)

    async def bounded(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        is_large = not declared.isdigit() or int(declared[:20]) > most_bytes()
        bare = scope | {"path": bare_path(settings.URL_PREFIX, scope["path"])}
        most = max(await ask(bare), most_bytes()) if is_large else most_bytes()
        if not declared.isdigit() or int(declared[:20]) > most:
            return await _refuse(scope, send, most)
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most:
                return await _refuse(scope, send, most)
        await application(scope, _replay(bytes(body), receive), send)

    return bounded


def _replay(body: bytes, receive: Callable) -> Callable[[], Awaitable[dict[str, Any]]]:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> dict[str, Any]:
        return waiting.pop() if waiting else await receive()

    return replayed


async def _refuse(scope: dict[str, Any], send: Callable, most: int) -> None:
    message = f"The body of a request may have {most} bytes."
    error = {"error": {"code": "too_large", "message": message}}
    is_api = bare_path(settings.URL_PREFIX, scope["path"]).startswith("/v1/")
    content = json.dumps(error).encode() if is_api else message.encode()
    kind = b"application/json" if is_api else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": content})
