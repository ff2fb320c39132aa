"""When a state is hashed between two checkpoints, for the chain that a certificate shows."""

import time
from collections.abc import Iterable

SHARE = 0.004  # of the time goes into hashing states that are not stored, at most


class NextHash:
    """When the state is hashed next: where that was asked for, and else so rarely that it costs next to nothing."""

    def __init__(self, seconds: float, places: Iterable[list[int]]) -> None:
        self._seconds = seconds
        self.places = frozenset(map(tuple, places))
        self.due_at = time.monotonic() + seconds if seconds else float("inf")

    def is_asked_for(self, place: dict[str, int]) -> bool:
        return (place["step"], place["epoch"]) in self.places

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.due_at

    def postpone(self, cost: float = 0.0) -> None:
        """`cost`: the seconds that the last one took, of any thread: a core may be short."""
        if self._seconds:
            self.due_at = time.monotonic() + max(self._seconds, cost / SHARE)
