"""One message to all sockets that show a job, for most of them stand at the same place.

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

from training.live.backpressure import framed
from training.live.debounce import DebouncedEvent
from training.live.feeds import FeedPosition, JobFeed, Message
from training.live.logins import Login
from training.live.subscriptions import Changes, subscriptions

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class JobSocket(Protocol):
    """A socket that shows the job."""

    login: Login | None
    place: FeedPosition | None
    shown: str | None

    @property
    def is_idle(self) -> bool:
        """It was sent all that it was woken for, and waits."""

    def take(self, message: Message, frame: bytes | None) -> bool:
        """Send this now and move on. False where that has to wait: nothing was sent."""

    def hurry(self) -> None:
        """Wake it: it reads what lies beyond its place."""


class JobBroadcast:
    """Follows the job while a socket shows it."""

    def __init__(self, job: int) -> None:
        self.feed = JobFeed(job)
        self._job = job
        self._sockets: set[JobSocket] = set()
        self._wake_up = DebouncedEvent()
        self._newest = -1  # the number of the newest event that they were told
        self._sender: asyncio.Task | None = None

    def join(self, socket: JobSocket) -> None:
        if not self._sockets:
            subscriptions().follow(self, [self._job])
            self._sender = asyncio.ensure_future(self._keep_telling())
        self._sockets.add(socket)

    def leave(self, socket: JobSocket) -> None:
        """May be called twice."""
        self._sockets.discard(socket)
        if not self._sockets and self._sender:
            subscriptions().unfollow(self, [self._job])
            self._sender.cancel()
            self._sender = None

    def wake(self, changes: Changes) -> None:
        seq = changes.jobs.get(self._job)
        self._wake_up.set(urgent=seq is None or seq > self._newest)

    async def _keep_telling(self) -> None:
        while True:
            await self._wake_up.wait()
            try:
                await self._push()
            except Error as error:
                logger.warning("The sockets of job %s wait for the database: %s", self._job, error)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake_up.set(urgent=True)
            except Exception:
                logger.exception("Job %s cannot be told to all at once.", self._job)
                for socket in list(self._sockets):
                    socket.hurry()

    async def _push(self) -> None:
        """1. part those who stand at one place  2. read what is next there  3. hand it to who still stands there."""
        for spot, sockets in self._by_spot().items():
            login = sockets[0].login
            assert login
            message = await self.feed.message(spot.place, (), spot.shown, login)
            self._newest = max(self._newest, message.place.after)
            frame = framed(message.text) if message.text else None
            for socket in sockets:
                if socket not in self._sockets:
                    continue
                is_there = socket.is_idle and _spot(socket) == spot
                if not (is_there and socket.take(message, frame)):
                    socket.hurry()

    def _by_spot(self) -> dict[Spot, list[JobSocket]]:
        """Those who are idle. The others look by themselves when they are done."""
        parted = defaultdict(list)
        for socket in self._sockets:
            if socket.is_idle and socket.place is not None:
                parted[_spot(socket)].append(socket)
            else:
                socket.hurry()
        return parted


class Spot(NamedTuple):
    """Where a socket stands. What is next for two at one spot is the same."""

    place: FeedPosition | None
    shown: str | None
    rights: tuple


def _spot(socket: JobSocket) -> Spot:
    return Spot(socket.place, socket.shown, socket.login.rights if socket.login else ())
