"""An event that is debounced: many changes make few messages, unless one must not wait."""

from __future__ import annotations

import asyncio
import time

FOLD_SECONDS = 0.25  # between two looks, unless one is urgent


class DebouncedEvent:
    """Set when something may have changed. Who waits is woken once for all the times that it was set meanwhile."""

    def __init__(self) -> None:
        self._is_set, self._urgent = asyncio.Event(), asyncio.Event()
        self._woke_at = -FOLD_SECONDS
        self._is_awaited = False

    @property
    def is_idle(self) -> bool:
        """Somebody waits for it, and it was not set: nothing is going on there."""
        return self._is_awaited and not self._is_set.is_set()

    def set(self, *, urgent: bool) -> None:
        if urgent:
            self._urgent.set()
        self._is_set.set()

    async def wait(self) -> None:
        """1. wait until it is set  2. fold."""
        self._is_awaited = True
        try:
            await self._is_set.wait()
            await self._fold(self._woke_at + FOLD_SECONDS - time.monotonic())
        finally:
            self._is_awaited = False
        self._is_set.clear()
        self._urgent.clear()
        self._woke_at = time.monotonic()

    async def _fold(self, seconds: float) -> None:
        if seconds > 0 and not self._urgent.is_set():
            try:
                await asyncio.wait_for(self._urgent.wait(), seconds)
            except TimeoutError:
                pass
