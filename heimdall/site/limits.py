"""A request's body is bounded before anything reads it: nothing of Heimdall takes uploads.

Django would spool the body to a temporary file before the first middleware sees the request, whoever sends it.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from heimdall.site.prefix import bare_path

Application = Callable[[dict[str, Any], Callable, Callable], Awaitable[None]]


def most_bytes() -> int:
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def bounded_bodies(application: Application) -> Application:
    """Answer 413 to a request whose body is too large, by its declared length or by what comes."""

    async def bounded(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:20]) > most_bytes():
            return await _refuse(scope, send)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most_bytes():
                return await _refuse(scope, send)
        await application(scope, _replay(body, receive), send)

    return bounded


def _replay(body: bytes, receive: Callable) -> Callable[[], Awaitable[dict[str, Any]]]:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> dict[str, Any]:
        return waiting.pop() if waiting else await receive()

    return replayed


async def _refuse(scope: dict[str, Any], send: Callable) -> None:
    message = f"The body of a request may have {most_bytes()} bytes."
    error = {"error": {"code": "too_large", "message": message}}
    is_api = bare_path(settings.URL_PREFIX, scope["path"]).startswith("/v1/")
    content = json.dumps(error).encode() if is_api else message.encode()
    kind = b"application/json" if is_api else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": content})
