"""Bounds for the bytes of one socket, in both directions.

Daphne's `send` returns before the bytes are on their way, so a client that does not read would fill the memory of
the server. Twisted tells a producer when a connection's buffer is full (64 KB) and when it is empty again: sends wait
for that. Under a server whose `send` waits by itself nothing is done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

MAX_MESSAGE_BYTES = 4_096  # of one message from a client

Send = Callable[[dict[str, Any]], Awaitable[None]]


def bounded(send: Send) -> Send:
    """The same `send`, made to wait while the client does not read. Long messages from it are refused."""
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    transport = getattr(protocol, "transport", None)
    if transport is None or not hasattr(transport, "registerProducer"):
        return send
    protocol.maxFramePayloadSize = protocol.maxMessagePayloadSize = MAX_MESSAGE_BYTES
    gate = Gate()
    transport.unregisterProducer()  # the one of the HTTP request that became this socket
    transport.registerProducer(gate, True)

    async def send_when_read(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await gate.opened.wait()
        protocol.maxMessagePayloadSize = (
            0  # autobahn holds what is sent to the same limit; this send does not wait
        )
        try:
            await send(message)
        finally:
            protocol.maxMessagePayloadSize = MAX_MESSAGE_BYTES

    return send_when_read


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
