"""The web server: uvicorn, with bounds on what strangers may hold.

uvicorn waits for ever for the rest of a header, of a body, and for a client that takes nothing of its answer. Here
each of them has a deadline, connections are counted (`connections.py`), and a header has a size. See
docs/decisions/101-uvicorn-serves-the-web.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from django.conf import settings
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from heimdall.site.connections import Connections, group_of
from heimdall.site.proxies import client_address

MAX_HEADER_BYTES = 65_536
MAX_MESSAGE_BYTES = 4_096  # of one message from a socket's client
IDLE_SECONDS = (
    75  # of a connection that is kept alive; longer than nginx keeps one, so that nginx closes first
)
CLOSE_SECONDS = 5.0  # for a client to take the last bytes before its connection is cut
STOP_SECONDS = 0.5  # for requests under way, at the end
EXIT_SECONDS = 0.8  # and whatever still holds up the end is left behind
SPARE_DESCRIPTORS = 128  # for databases, files, threads


def plain(status: str, sentence: str) -> bytes:
    """An answer for which no application is asked."""
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
    return f"{head}content-length: {len(sentence)}\r\n\r\n{sentence}".encode("ascii")


BUSY = plain("503 Service Unavailable", "Too many connections are open. Try it later.\n")
TOO_LONG = plain("431 Request Header Fields Too Large", f"A header may have {MAX_HEADER_BYTES} bytes.\n")


class Deadline:
    """Cuts a connection unless it is set anew or lifted in time."""

    def __init__(self, cut: Callable[[], None]) -> None:
        self._cut = cut
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self.lift()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._cut)

    def lift(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def cut(transport: asyncio.Transport) -> None:
    """Close now: a plain close would wait until the client has taken all of its answer."""
    if transport.get_write_buffer_size():
        transport.abort()
    else:
        transport.close()


class BoundedHttp(HttpToolsProtocol):
    """One connection that speaks HTTP: it waits for a header, then for a body, the application works, it waits again.

    What the client owes us (the rest of a header or of a body) and what it has to take (the answer) have a deadline
    each, for both may go on at once.
    """

    def __init__(self, *given: Any, table: Connections, **named: Any) -> None:
        super().__init__(*given, **named)
        self._table = table
        self._owed, self._taken = Deadline(self.give_way), Deadline(self.give_way)
        self._num_header_bytes, self._has_header, self._has_body = 0, False, False
        self._group: str | None = None
        self._is_admitted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._group = group_of(self.client[0] if self.client else None)
        if not self._table.admit(self, self._group):
            self._refuse(BUSY)
            return
        self._owed.set(settings.HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lift_deadlines()
        self._table.leave(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        cut(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._num_header_bytes > MAX_HEADER_BYTES:
            self._refuse(TOO_LONG)
            return
        if not self._has_header:
            self._num_header_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_header = self._has_body = False
        self._owed.set(settings.HEADER_SECONDS)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_header:  # what follows a body in pieces is read by nobody
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._num_header_bytes, self._has_header = 0, True
        self._owed.set(settings.BODY_SECONDS)
        self._table.works(self)
        self._is_admitted = self._group is not None or self._table.belongs_to(self, self._forwarded_group())
        self.app = self.config.loaded_app if self._is_admitted else service_unavailable
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._has_body = True
        self._owed.lift()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:  # the answer did not need the body
            self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._taken.set(CLOSE_SECONDS)
        elif self._has_body and not self.pipeline:
            self._wait()

    def handle_websocket_upgrade(self) -> None:
        self._lift_deadlines()
        if not self._is_admitted:
            self._refuse(BUSY)
            return
        super().handle_websocket_upgrade()
        opened = self.transport.get_protocol()
        assert isinstance(opened, BoundedSocket)
        self._table.hand_over(self, opened)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taken.set(settings.BODY_SECONDS)

    def resume_writing(self) -> None:
        self._taken.lift()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        self.give_way()

    def _wait(self) -> None:
        """For the next request, which may be somebody else's where a proxy asks."""
        self._table.belongs_to(self, self._group)
        self._table.waits(self)
        self._owed.set(IDLE_SECONDS)

    def _forwarded_group(self) -> str | None:
        """Of the person behind our proxy; None where the proxy asks for itself."""
        forwarded = b",".join(value for name, value in self.headers if name == b"x-forwarded-for")
        return group_of(client_address(self.client[0] if self.client else "", forwarded.decode("latin1")))

    def _lift_deadlines(self) -> None:
        self._owed.lift()
        self._taken.lift()

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()
        self._taken.set(CLOSE_SECONDS)


class BoundedSocket(WebSocketsSansIOProtocol):
    """One connection that became a socket. Sends wait while the client does not read."""

    def __init__(self, *given: Any, table: Connections, **named: Any) -> None:
        super().__init__(*given, **named)
        self._table = table

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.leave(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        cut(self.transport)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # The close waits for a client that reads; this one may never read again.
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)


class WebServer(uvicorn.Server):
    """Stops in less than a second, and leaves nothing of that in the log."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").setLevel(
            logging.CRITICAL
        )  # answers that are cut off now are meant to be
        late = threading.Timer(EXIT_SECONDS, os._exit, (0,))  # a thread may still wait for the database
        late.daemon = True
        late.start()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A stop that was asked for is a success: uvicorn would end by the signal."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def serve(application: str, listener: socket.socket, *, ping_seconds: float = 20.0) -> None:
    """Serve the application on a socket that listens, until SIGTERM or SIGINT."""
    table = Connections(most_connections(), settings.MAX_CONNECTIONS_PER_ADDRESS)
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http=partial(BoundedHttp, table=table),  # type: ignore[arg-type]  # called like a class
        ws=partial(BoundedSocket, table=table),  # type: ignore[arg-type]
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=ping_seconds,
        ws_ping_timeout=1.5 * ping_seconds,
        ws_per_message_deflate=False,  # one frame is made for all who watch a job
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # Django and the bounds read X-Forwarded-For themselves
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,  # type: ignore[arg-type]  # asyncio takes fractions
    )
    WebServer(config).run([listener])


def most_connections() -> int:
    """The setting, or as many as this process may have descriptors for."""
    return max(1, min(settings.MAX_CONNECTIONS, raise_descriptor_limit() - SPARE_DESCRIPTORS))


def raise_descriptor_limit() -> int:
    """Let this process open as many files as the system allows it at all; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65_536)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS has a lower limit than the one that it names
            return soft
    return wanted
