"""The sockets that show one job. They are told together, for most of them stand at the same place.

What is new is read once and framed once, and each of them is handed the same bytes without being waited for. One that
cannot take them now, because its client does not read or because it is being told something already, is woken instead
and reads for itself. So a socket's place moves only with what it was sent, whoever sends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import NamedTuple, Protocol

from django.db import Error

from training.live.bell import Bell
from training.live.board import Changes, board
from training.live.feeds import JobFeed, Message, Place
from training.live.flow import framed
from training.live.logins import Login

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Listener(Protocol):
    """A socket that shows the job."""

    login: Login | None
    place: Place | None
    shown: str | None

    @property
    def is_idle(self) -> bool:
        """It was sent all that it was woken for, and waits."""

    def take(self, message: Message, frame: bytes | None) -> bool:
        """Send this now and move on. False where that has to wait: nothing was sent."""

    def hurry(self) -> None:
        """Wake it: it reads what lies beyond its place."""


class Audience:
    """Follows the job while somebody listens."""

    def __init__(self, job: int) -> None:
        self.feed = JobFeed(job)
        self._job = job
        self._listeners: set[Listener] = set()
        self._bell = Bell()
        self._newest = -1  # the number of the newest event that they were told
        self._teller: asyncio.Task | None = None

    def join(self, listener: Listener) -> None:
        if not self._listeners:
            board().follow(self, [self._job])
            self._teller = asyncio.ensure_future(self._tell_on())
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """May be called twice."""
        self._listeners.discard(listener)
        if not self._listeners and self._teller:
            board().unfollow(self, [self._job])
            self._teller.cancel()
            self._teller = None

    def wake(self, changes: Changes) -> None:
        seq = changes.jobs.get(self._job)
        self._bell.ring(urgent=seq is None or seq > self._newest)

    async def _tell_on(self) -> None:
        while True:
            await self._bell.heard()
            try:
                await self._tell()
            except Error as error:
                logger.warning("The sockets of job %s wait for the database: %s", self._job, error)
                await asyncio.sleep(RETRY_SECONDS)
                self._bell.ring(urgent=True)
            except Exception:
                logger.exception("Job %s cannot be told to all at once.", self._job)
                for listener in list(self._listeners):
                    listener.hurry()

    async def _tell(self) -> None:
        """1. part those who stand at one place  2. read what is next there  3. hand it to who still stands there."""
        for spot, listeners in self._by_spot().items():
            login = listeners[0].login
            assert login
            message = await self.feed.message(spot.place, (), spot.shown, login)
            self._newest = max(self._newest, message.place.after)
            frame = framed(message.text) if message.text else None
            for listener in listeners:
                if listener not in self._listeners:
                    continue
                is_there = listener.is_idle and _spot(listener) == spot
                if not (is_there and listener.take(message, frame)):
                    listener.hurry()

    def _by_spot(self) -> dict[Spot, list[Listener]]:
        """Those who are idle. The others look by themselves when they are done."""
        parted = defaultdict(list)
        for listener in self._listeners:
            if listener.is_idle and listener.place is not None:
                parted[_spot(listener)].append(listener)
            else:
                listener.hurry()
        return parted


class Spot(NamedTuple):
    """Where a socket stands. What is next for two at one spot is the same."""

    place: Place | None
    shown: str | None
    rights: tuple


def _spot(listener: Listener) -> Spot:
    return Spot(listener.place, listener.shown, listener.login.rights if listener.login else ())
