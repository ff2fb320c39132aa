"""Backpressure: how bytes go to one socket, bounded, and at once where that is possible.

uvicorn's `send` waits while a client does not read. Beside it, a frame that many sockets share is written here
without being made anew for each of them, and without waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

Send = Callable[[dict[str, Any]], Awaitable[None]]


def writer_of(send: Send) -> SocketWriter | None:
    """The writer under a socket's `send`, where there is one."""
    protocol = getattr(send, "__self__", None)
    return SocketWriter(protocol) if isinstance(protocol, WebSocketsSansIOProtocol) else None


def framed(text: str) -> bytes:
    """A message as it goes over the wire, to any number of sockets: none of them compresses."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


class SocketWriter:
    """The way to one client. What comes too late for it is dropped: the consumer is told of the end by itself."""

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol

    async def send(self, message: dict[str, Any]) -> None:
        """Waits while the client does not read."""
        if not self._protocol.close_sent:
            with suppress(OSError):  # the client is gone
                await self._protocol.send(message)  # type: ignore[arg-type]

    def put(self, frame: bytes) -> bool:
        """Send a framed message without waiting. False where it would have to wait, or where the socket is closed."""
        protocol = self._protocol
        is_open = (
            protocol.handshake_complete and not protocol.close_sent and not protocol.transport.is_closing()
        )
        if not is_open or not protocol.writable.is_set():
            return False
        protocol.transport.write(frame)
        return True
