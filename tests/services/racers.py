"""Supervisors that claim at once, each in a process of its own: `python -m tests.services.racers 6`.

They take what is queued in the database of DATABASE_URL. Prints, for each process, the jobs that it got.
"""

from __future__ import annotations

import json
import os
import sys


def claim_all() -> list[int]:
    from training import services

    node = services.register_node()
    return [attempt.job_id for attempt in iter(lambda: services.claim(node, slot=0, pid=os.getpid()), None)]


def race(number: int) -> list[list[int]]:
    """Forked, because starting Django in each takes longer than the race; each opens a connection of its own."""
    start, begin = os.pipe()
    results = []
    for _ in range(number):
        reader, writer = os.pipe()
        if os.fork() == 0:
            try:
                os.close(begin)
                os.read(start, 1)  # the end of the pipe is the starting gun
                os.write(writer, json.dumps(claim_all()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        results.append(reader)
    os.close(begin)
    taken = []
    for reader in results:
        with os.fdopen(reader, "rb") as file:
            taken.append(json.loads(file.read()))
        os.wait()
    return taken


def main() -> None:
    import django

    django.setup()
    json.dump(race(int(sys.argv[1])), sys.stdout)


if __name__ == "__main__":
    main()
