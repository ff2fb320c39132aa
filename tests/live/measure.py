"""How long an event takes from its commit, in another process, to the last of many sockets.

    python -m tests.live.measure --sockets 100 --events 100

A real server, a real writer and plain clients, all on this host; the clock is the one that its processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from tests.live.server import Server, Writer

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SEQ = re.compile(rb'\},"seq":(\d+),"events"')


class Socket(asyncio.Protocol):
    """A client that costs next to nothing: it notes when bytes came and looks into them afterwards."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._arrived: list[tuple[float, bytes]] = []
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._arrived.append((time.monotonic(), data))
        if not self.opened.done() and b'"picture"' in data:
            self.opened.set_result(None)

    def connection_lost(self, reason: Exception | None) -> None:
        if not self.opened.done():
            said = b"".join(data for _, data in self._arrived)[:300]
            self.opened.set_exception(
                ConnectionError(f"A socket was closed before it showed the job: {said!r}")
            )

    def seen(self) -> dict[int, float]:
        """When each event number was there, at the latest."""
        moments: dict[int, float] = {}
        text, known = b"", 0
        for moment, data in self._arrived:
            text += data
            for found in SEQ.finditer(text):
                for seq in range(known + 1, int(found[1]) + 1):
                    moments[seq] = moment
                known = max(known, int(found[1]))
                text = text[found.end() :]
        return moments


def measured(num_sockets: int, num_events: int, people: int = 1) -> dict[str, float]:
    """The figures of a server and a writer that are started for them."""
    with tempfile.TemporaryDirectory() as folder:
        # All of them come from one address here.
        server = Server(Path(folder), HEIMDALL_MAX_CONNECTIONS_PER_ADDRESS=str(num_sockets + 50))
        writer = Writer(server.environment)
        try:
            writer.migrate()
            server.start()
            return asyncio.run(measure(server, writer, num_sockets, num_events, people))
        finally:
            server.kill()
            writer.close()


async def measure(
    server: Server, writer: Writer, num_sockets: int, num_events: int, people: int
) -> dict[str, float]:
    logins = [writer.person(name=f"person-{number}", superuser=True) for number in range(people)]
    job = writer.submit(by=logins[0]["name"])
    writer.claim(job=job)
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    sockets = []
    for number in range(num_sockets):
        request = _request(server, f"/ws/training/{job}/", logins[number % people]["token"])
        _, socket = await loop.create_connection(lambda: Socket(request), "127.0.0.1", server.port)  # noqa: B023
        sockets.append(socket)
    await asyncio.gather(*(socket.opened for socket in sockets))
    opened = time.monotonic() - began
    await asyncio.sleep(2)

    process = psutil.Process(server.process.pid)  # type: ignore[union-attr]
    cpu, began = sum(process.cpu_times()[:2]), time.monotonic()
    await asyncio.sleep(3)
    idle = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
    cpu = sum(process.cpu_times()[:2])
    committed = await asyncio.to_thread(writer.note, job=job, count=num_events, pause=0.17)
    first, deadline = 3, time.monotonic() + 30  # submit and claim came before
    await asyncio.sleep(0.5)
    seen = [socket.seen() for socket in sockets]
    while min(len(moments) for moments in seen) < first + num_events - 1 and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        seen = [socket.seen() for socket in sockets]
    busy = (sum(process.cpu_times()[:2]) - cpu) / num_events
    delays = sorted(
        1000 * (max(moments[first + number] for moments in seen) - moment)
        for number, moment in enumerate(committed)
    )
    return {
        "open all sockets, s": opened,
        "to the last socket, p50 ms": statistics.median(delays),
        "to the last socket, p95 ms": delays[int(0.95 * (len(delays) - 1))],
        "to the last socket, max ms": delays[-1],
        "server CPU an event, ms": 1000 * busy,
        "server CPU while nothing happens, %": 100 * idle,
        "server memory, MB": server.memory_bytes() / 1e6,
    }


def _request(server: Server, path: str, token: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        f"Authorization: Token {token}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=100)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--people", type=int, default=1, help="logins that share the sockets")
    given = parser.parse_args()
    figures = measured(given.sockets, given.events, given.people)
    print(f"{given.events} events, {given.sockets} sockets of {given.people} logins")
    for name, value in figures.items():
        print(f"{name:40} {value:8.1f}")


if __name__ == "__main__":
    main()
