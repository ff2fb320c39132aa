"""From an event's commit in another process to the last of 500 sockets of one web process, as JSON."""

from __future__ import annotations

import json

from tests.live.measure import measured

SOCKETS, EVENTS = 500, 60


def main() -> None:
    found = measured(SOCKETS, EVENTS)
    print(json.dumps({name: found[f"to the last socket, {name} ms"] for name in ("p50", "p95")}))


if __name__ == "__main__":
    main()
