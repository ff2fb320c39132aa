"""How many connections may be open, in all and of one address, and who has to go when there are too many.

A connection that has not sent a whole request *waits*: it was just opened, sends half a header, or is kept alive
after an answer. Where one more would be too many, the one that has waited longest is closed in its favor. So somebody
who opens connections and sends nothing pushes out his own, and a request that comes whole is still answered. Only
where all of them are at work is the new one refused.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import Protocol

from heimdall.site.proxies import is_trusted, parsed


class Connection(Protocol):
    def give_way(self) -> None:
        """Close at once: the place is needed."""


def group_of(address: str | None) -> str | None:
    """What is counted as one address; None for a proxy of ours, which carries many people's connections.

    An IPv6 address counts with its /64: a single machine owns all of it.
    """
    found = parsed(address or "")
    if found is None or is_trusted(str(found)):
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


class Connections:
    """The open connections of one web process."""

    def __init__(self, most: int, most_of_one_address: int) -> None:
        self.most, self.most_of_one_address = most, most_of_one_address
        self._groups: dict[Connection, str | None] = {}
        self._waiting: dict[Connection, None] = {}  # the one that has waited longest stands first
        self._num_of: dict[str, int] = defaultdict(int)
        self._waiting_of: dict[str, dict[Connection, None]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._groups)

    def admit(self, connection: Connection, group: str | None) -> bool:
        """Take in a new connection, which waits. False where there is no place."""
        if not self._has_place(group, needs_place_in_all=True):
            return False
        self._groups[connection] = group
        self._count(group, 1)
        self.waits(connection)
        return True

    def belongs_to(self, connection: Connection, group: str | None) -> bool:
        """Count the connection for another address, now that it is known. False where that has too many."""
        if connection not in self._groups or group == self._groups[connection]:
            return True
        if not self._has_place(group, needs_place_in_all=False):
            return False
        is_waiting = connection in self._waiting
        self.works(connection)
        self._count(self._groups[connection], -1)
        self._groups[connection] = group
        self._count(group, 1)
        if is_waiting:
            self.waits(connection)
        return True

    def waits(self, connection: Connection) -> None:
        """It waits from now on for a whole request."""
        if connection not in self._groups:
            return
        self.works(connection)
        self._waiting[connection] = None
        if (group := self._groups[connection]) is not None:
            self._waiting_of[group][connection] = None

    def works(self, connection: Connection) -> None:
        """It sent a whole request, or became a socket: it keeps its place."""
        self._waiting.pop(connection, None)
        group = self._groups.get(connection)
        if group in self._waiting_of:
            self._waiting_of[group].pop(connection, None)
            if not self._waiting_of[group]:
                del self._waiting_of[group]

    def leave(self, connection: Connection) -> None:
        """May be called twice."""
        if connection in self._groups:
            self.works(connection)
            self._count(self._groups.pop(connection), -1)

    def hand_over(self, connection: Connection, to: Connection) -> None:
        """A request became a socket, which has an object of its own: it takes the place and keeps it."""
        if connection in self._groups:
            self.works(connection)
            self._groups[to] = self._groups.pop(connection)

    def _has_place(self, group: str | None, *, needs_place_in_all: bool) -> bool:
        if group is not None and self._num_of.get(group, 0) >= self.most_of_one_address:
            return self._drop_first(self._waiting_of.get(group, {}))
        if needs_place_in_all and len(self) >= self.most:
            return self._drop_first(self._waiting)
        return True

    def _drop_first(self, waiting: dict[Connection, None]) -> bool:
        if not waiting:
            return False
        longest = next(iter(waiting))
        self.leave(longest)
        longest.give_way()
        return True

    def _count(self, group: str | None, change: int) -> None:
        if group is None:
            return
        self._num_of[group] += change
        if not self._num_of[group]:
            del self._num_of[group]
