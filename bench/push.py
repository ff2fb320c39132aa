"""From an event's commit in another process to the last of 500 sockets of one web process, as JSON."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from tests.live.measure import measure
from tests.live.server import Server, Writer

SOCKETS, EVENTS = 500, 60


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        writer = Writer(server.environment)
        try:
            writer.migrate()
            server.start()
            found = asyncio.run(measure(server, writer, SOCKETS, EVENTS, 1))
        finally:
            server.kill()
            writer.close()
    print(
        json.dumps({"p50": found["to the last socket, p50 ms"], "p95": found["to the last socket, p95 ms"]})
    )


if __name__ == "__main__":
    main()
