"""A reverse proxy that serves what is below one path, for HTTP and sockets alike: one request a connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class PathProxy:
    """Hands on what is asked below the path, with it or without it; all else gets 404."""

    def __init__(self, path: str, *, strips: bool) -> None:
        self.path, self.strips = path, strips
        self.port = self.target = 0
        self.refused: list[str] = []  # what was asked outside of the path

    async def serve(self, told: threading.Event) -> None:
        """Until `close`."""
        self._loop, self._closed = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._serve_one, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            told.set()
            await self._closed.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closed.set)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
            method, path, version = first.split(" ")
            if not path.startswith(self.path + "/"):
                self.refused.append(path)
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            else:
                asked = path.removeprefix(self.path) if self.strips else path
                is_socket = any(line.lower().startswith("upgrade:") for line in rest)
                kept = [line for line in rest if is_socket or not line.lower().startswith("connection:")]
                head = [f"{method} {asked} {version}", *([] if is_socket else ["connection: close"]), *kept]
                await self._join("\r\n".join(head).encode("latin1"), reader, writer)
        writer.close()

    async def _join(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        to_server.write(head)
        tasks = [
            asyncio.create_task(_copy(reader, to_server)),
            asyncio.create_task(_copy(from_server, writer)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        to_server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextmanager
def path_proxy(path: str, *, strips: bool) -> Iterator[PathProxy]:
    """A proxy in a thread of its own; set `target` to the port of the server."""
    proxy, listens = PathProxy(path, strips=strips), threading.Event()
    thread = threading.Thread(
        target=asyncio.run, args=(proxy.serve(listens),)
    )  # a browser's driver has a loop here
    thread.start()
    assert listens.wait(10)
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
