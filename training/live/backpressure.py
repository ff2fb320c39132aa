"""Backpressure: how bytes go to one socket under daphne, bounded in both directions, and at once where possible.

Daphne's `send` returns before the bytes are on their way, so a client that does not read would fill the memory of
the server. Twisted tells a producer when a connection's buffer is full (64 KB) and when it is empty again: sends wait
for that. Under a server whose `send` waits by itself there is no writer, and nothing is done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from autobahn.websocket.protocol import PreparedMessage
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from zope.interface import implementer

MAX_MESSAGE_BYTES = 4_096  # of one message from a client

Send = Callable[[dict[str, Any]], Awaitable[None]]


def writer_of(send: Send) -> SocketWriter | None:
    """The writer under a socket's `send`, where there is one."""
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    transport = getattr(protocol, "transport", None)
    if transport is None or not hasattr(transport, "registerProducer"):
        return None
    return SocketWriter(send, protocol)


def framed(text: str) -> bytes:
    """A message as it goes over the wire, to any number of sockets: none of them compresses."""
    return PreparedMessage(text.encode(), isBinary=False, applyMask=False, doNotCompress=True).payloadHybi


class SocketWriter:
    """Waits while the client does not read. Long messages from it are refused."""

    def __init__(self, send: Send, protocol: Any) -> None:
        self._send, self._protocol = send, protocol
        self._transport = protocol.transport
        self._gate = Gate()
        protocol.maxFramePayloadSize = protocol.maxMessagePayloadSize = MAX_MESSAGE_BYTES
        self._transport.unregisterProducer()  # the one of the HTTP request that became this socket
        self._transport.registerProducer(self._gate, True)

    async def send(self, message: dict[str, Any]) -> None:
        """The socket's `send`, made to wait."""
        if message["type"] == "websocket.send":
            await self._gate.opened.wait()
        protocol = self._protocol
        protocol.maxMessagePayloadSize = (
            0  # autobahn holds what is sent to the same limit; this send does not wait
        )
        try:
            await self._send(message)
        finally:
            protocol.maxMessagePayloadSize = MAX_MESSAGE_BYTES

    def put(self, frame: bytes) -> bool:
        """Send a framed message without waiting. False where it would have to wait, or where the socket is closed."""
        protocol = self._protocol
        if protocol.state != protocol.STATE_OPEN or not self._gate.opened.is_set():
            return False
        written = self._written(frame)
        if written < len(frame):
            self._transport.write(frame[written:])
        return True

    def _written(self, frame: bytes) -> int:
        """How many bytes the kernel took at once.

        Twisted by itself writes by way of its poller: later than all that is done now, and at twice the cost.
        """
        transport = self._transport
        if not isinstance(transport, Connection) or transport.TLS:
            return 0
        if transport.dataBuffer or transport._tempDataBuffer:  # these bytes come first
            return 0
        written = transport.writeSomeData(frame)
        return written if isinstance(written, int) else 0  # lost: Twisted notices at its own write


@implementer(IPushProducer)
class Gate:
    """Open while the connection's buffer takes more."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()

    def pauseProducing(self) -> None:
        self.opened.clear()

    def resumeProducing(self) -> None:
        self.opened.set()

    def stopProducing(self) -> None:
        self.opened.set()
