"""When to look: many changes make few messages, unless one must not wait."""

from __future__ import annotations

import asyncio
import time

FOLD_SECONDS = 0.25  # between two looks, unless one is urgent


class Bell:
    """Rung when there may be news. Rings are folded: whoever hears them looks once for all that were rung."""

    def __init__(self) -> None:
        self._news, self._urgent = asyncio.Event(), asyncio.Event()
        self._heard_at = -FOLD_SECONDS
        self._is_awaited = False

    @property
    def is_quiet(self) -> bool:
        """Somebody waits for it, and it was not rung: nothing is going on there."""
        return self._is_awaited and not self._news.is_set()

    def ring(self, *, urgent: bool) -> None:
        if urgent:
            self._urgent.set()
        self._news.set()

    async def heard(self) -> None:
        """1. wait until there may be news  2. fold."""
        self._is_awaited = True
        try:
            await self._news.wait()
            await self._fold(self._heard_at + FOLD_SECONDS - time.monotonic())
        finally:
            self._is_awaited = False
        self._news.clear()
        self._urgent.clear()
        self._heard_at = time.monotonic()

    async def _fold(self, seconds: float) -> None:
        if seconds > 0 and not self._urgent.is_set():
            try:
                await asyncio.wait_for(self._urgent.wait(), seconds)
            except TimeoutError:
                pass
