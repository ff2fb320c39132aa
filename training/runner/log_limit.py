"""How much of what a trainer prints is written to the database: a token bucket an attempt, and a limit a job.

The beginning and the newest part are kept. What is left out between them is counted, and the log says so there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from django.conf import settings

BURST_CHARACTERS = 256 * 1024  # at once, before the rate counts
TAIL_CHARACTERS = 32 * 1024  # held back until there is room, or the attempt ends


class LogLimit:
    def __init__(self, num_written: int, *, clock: Callable[[], float] = time.monotonic):
        """`num_written` is how much of the job's log there is already."""
        self._left = max(int(settings.LOG_MB * 1e6) - num_written, 0)
        self._allowed = float(BURST_CHARACTERS)
        self._held, self._num_left_out = "", 0
        self._clock, self._counted_at = clock, clock()

    def pass_on(self, text: str) -> str:
        """What may be written now; called a few times a second, also where nothing was printed."""
        self._count_time()
        if self._held:
            self._hold(text)
            return self._release()
        room = min(int(self._allowed), self._left)
        written = text[:room]
        self._spend(len(written))
        self._hold(text[room:])
        return written

    def rest(self) -> str:
        """What was held back, at the end of the attempt: it is short, and is written in any case."""
        rest, self._held = self._gap() + self._held, ""
        return rest

    def _count_time(self) -> None:
        now = self._clock()
        more = (now - self._counted_at) * settings.LOG_KB_PER_SECOND * 1000
        self._allowed, self._counted_at = min(self._allowed + more, BURST_CHARACTERS), now

    def _spend(self, characters: int) -> None:
        self._allowed -= characters
        self._left -= characters

    def _hold(self, text: str) -> None:
        held = self._held + text
        surplus = max(len(held) - TAIL_CHARACTERS, 0)
        self._held, self._num_left_out = held[surplus:], self._num_left_out + surplus

    def _release(self) -> str:
        if len(self._held) > min(self._allowed, self._left):
            return ""
        self._spend(len(self._held))
        return self.rest()

    def _gap(self) -> str:
        if not self._num_left_out:
            return ""
        left_out, self._num_left_out = self._num_left_out, 0
        why = "HEIMDALL_LOG_KB_PER_SECOND" if self._left > TAIL_CHARACTERS else "HEIMDALL_LOG_MB"
        return f"\n[... {left_out} characters were left out: more was printed than {why} allows ...]\n"
