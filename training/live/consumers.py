"""The sockets: one job, or the list. docs/live.md is the protocol.

A socket's writer runs one path for what happened before it was opened and for what happens now: read what lies
beyond its place, send, remember the place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import weakref
from collections import defaultdict
from collections.abc import Collection
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import Error

from training.live import feeds
from training.live.backpressure import SocketWriter
from training.live.broadcast import JobBroadcast
from training.live.debounce import DebouncedEvent
from training.live.feeds import FeedPosition, ListFeed, Message, in_database
from training.live.login_changes import ANYBODY, login_changes
from training.live.logins import Credential, Login, chosen_subprotocol, credential_of, look_up
from training.live.subscriptions import Changes, subscriptions
from training.live.tailer import LATE_NUMBERS

logger = logging.getLogger(__name__)

NO_LOGIN, NOT_ALLOWED, NOT_FOUND, TOO_MUCH, FAILED = 4401, 4403, 4404, 4408, 4500
CHECK_SECONDS = (1.0, 8.0)  # between two rounds that look logins up again, at least and at most
CHECK_SHARE = 0.05  # of the time, at most, goes into these rounds
CHECK_ANYWAY_SECONDS = 60.0  # a round although nothing was written: sessions end by the clock
RETRY_SECONDS = 1.0
MAX_IDS = 200
MAX_NUMBER = 2**63 - 1
MAX_MESSAGES_A_SECOND = 50  # from a client


class BadQuery(ValueError):
    """The address asks for something that cannot be."""


class LiveConsumer(AsyncWebsocketConsumer):
    """A socket: opened for a login, woken by its subscription, closed when the login holds no more."""

    channel_layer_alias = None  # nobody sends to a socket: it is woken, and reads

    def __init__(self) -> None:
        super().__init__()
        self.login: Login | None = None
        self.credential: Credential | None = None
        self._wake_up = DebouncedEvent()
        self._writer: asyncio.Task | None = None
        self._pong: asyncio.Task | None = None
        self._window, self._num_received = 0.0, 0

    async def connect(self) -> None:
        await self.accept(chosen_subprotocol(self.scope))  # a browser is told a close code only after it
        self.credential = credential_of(self.scope)
        self.login = await in_database(look_up)(self.credential)
        if self.login is None:
            return await self.close(NO_LOGIN)
        try:
            self.begin(parse_qs(self.scope["query_string"].decode("latin1"), keep_blank_values=True))
        except BadQuery:
            return await self.close(NOT_ALLOWED)
        open_sockets().join(self)
        self.hurry()
        self._writer = asyncio.ensure_future(self._write())

    async def disconnect(self, code: int) -> None:
        self._end()
        if self._writer:
            self._writer.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """A ping is answered, at most one at a time; anything else is ignored."""
        now = time.monotonic()
        if now - self._window > 1:
            self._window, self._num_received = now, 0
        self._num_received += 1
        if self._num_received > MAX_MESSAGES_A_SECOND:
            return await self.leave(TOO_MUCH)
        if _is_ping(text_data) and (self._pong is None or self._pong.done()):
            self._pong = asyncio.ensure_future(self.send('{"type":"pong"}'))

    async def leave(self, code: int) -> None:
        self._end()
        await self.close(code)

    def begin(self, query: dict[str, list[str]]) -> None:
        """Follow what the address names. Raises BadQuery."""
        raise NotImplementedError

    def end(self) -> None:
        """Follow nothing any more. May be called twice."""
        raise NotImplementedError

    async def tell(self) -> bool:
        """Read and send what is new. False when the socket was left."""
        raise NotImplementedError

    async def check(self, login: Login) -> None:
        """The login was looked up again."""
        self.login = login

    def hurry(self) -> None:
        self._wake_up.set(urgent=True)

    def soon(self) -> None:
        self._wake_up.set(urgent=False)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake_up.wait()
                if not await self._try_to_tell():
                    return
        except Exception:
            logger.exception("A socket failed.")
            await self.leave(FAILED)

    async def _try_to_tell(self) -> bool:
        try:
            return await self.tell()
        except Error as error:
            logger.warning("A socket waits for the database: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
            self.soon()
            return True

    def _end(self) -> None:
        if self.login:
            self.end()
            open_sockets().leave(self)


class JobConsumer(LiveConsumer):
    """One job."""

    def begin(self, query: dict[str, list[str]]) -> None:
        self.job: int = self.scope["url_route"]["kwargs"]["job"]
        self.place: FeedPosition | None = None
        self.shown: str | None = None
        names = {"after", "step", "row", "epoch", "closed", "log"}
        self.asked = tuple((name, _number(query[name])) for name in sorted(names & query.keys()))
        self.broadcast = open_sockets().broadcast(self.job)
        if self.job <= MAX_NUMBER:
            self.broadcast.join(self)

    def end(self) -> None:
        self.broadcast.leave(self)

    @property
    def is_idle(self) -> bool:
        return self._wake_up.is_idle

    def take(self, message: Message, frame: bytes | None) -> bool:
        writer: SocketWriter | None = self.scope["writer"]
        if message.shown is None or message.has_more or writer is None:
            return False
        if frame is not None and not writer.put(frame):
            return False
        self.place, self.shown = message.place, message.shown
        return True

    async def tell(self) -> bool:
        assert self.login
        has_more = self.job <= MAX_NUMBER
        while has_more:
            asked = self.asked if self.place is None else ()
            message = await self.broadcast.feed.message(self.place, asked, self.shown, self.login)
            if message.shown is None:
                break
            if message.text:
                await self.send(message.text)
            self.place, self.shown, has_more = message.place, message.shown, message.has_more
        else:
            if self.place is not None:
                return True
        await self.leave(NOT_FOUND)
        return False

    async def check(self, login: Login) -> None:
        assert self.login
        has_changed = login.rights != self.login.rights
        await super().check(login)
        if has_changed:
            self.hurry()


class ListConsumer(LiveConsumer):
    """The newest jobs that the user can see, or some by their ids."""

    def begin(self, query: dict[str, list[str]]) -> None:
        self.ids = _ids(query["ids"]) if "ids" in query else None
        self.shown: dict[int, int] | None = None  # a fingerprint of what was sent, by job
        self.newest = 0
        self.dirty: set[int] = set()
        self.has_new = False
        self.feed: ListFeed = open_sockets().lists
        if self.ids is None:
            subscriptions().follow(self, (), new=True)

    def end(self) -> None:
        subscriptions().unfollow(self, self.shown or (), new=True)
        self.shown = {}

    def wake(self, changes: Changes) -> None:
        self.dirty |= changes.jobs.keys()
        self.has_new |= changes.has_new
        self.soon()

    async def tell(self) -> bool:
        assert self.login
        if self.shown is None:
            await self._show_picture(self.login)
        else:
            await self._show_changes(self.login, self.shown)
        return True

    async def check(self, login: Login) -> None:
        """Take in what became visible or invisible without a change of the job itself."""
        await super().check(login)
        if self.shown is None:
            return
        page = set(await in_database(feeds.page_of)(login.user, self.ids))
        if page != self.shown.keys():
            self.dirty |= page ^ self.shown.keys()
            self.soon()

    async def _show_picture(self, login: Login) -> None:
        self.newest, jobs = await in_database(feeds.picture_of_list)(login.user, self.ids)
        self.shown = {job: hash(text) for job, text in jobs.items()}
        subscriptions().follow(self, jobs, new=self.ids is None)
        await self.send(f'{{"type":"picture","jobs":[{",".join(jobs.values())}]}}')

    async def _show_changes(self, login: Login, shown: dict[int, int]) -> None:
        dirty, has_new = self.dirty, self.has_new
        self.dirty, self.has_new = set(), False
        try:
            newer_than = max(self.newest - LATE_NUMBERS, 0) if has_new else None
            found = await self.feed.changed(frozenset(dirty), newer_than)
            jobs = await self.feed.jsons(found, login)
        except Error:
            self.dirty, self.has_new = self.dirty | dirty, self.has_new or has_new
            raise
        self.newest = max([self.newest, *jobs])
        now = {job: mark for job, mark in shown.items() if job not in dirty}
        now |= {
            job: hash(text) for job, text in jobs.items() if text and (self.ids is None or job in self.ids)
        }
        if self.ids is None:
            now = {job: now[job] for job in sorted(now, reverse=True)[: feeds.PAGE]}
        changed = [str(jobs[job]) for job in sorted(now, reverse=True) if now[job] != shown.get(job)]
        gone = sorted(shown.keys() - now.keys())
        self.shown = now
        subscriptions().follow(self, now.keys() - shown.keys(), new=self.ids is None)
        subscriptions().unfollow(self, gone)
        if changed or gone:
            await self.send(f'{{"type":"jobs","jobs":[{",".join(changed)}],"gone":{json.dumps(gone)}}}')


class NowhereConsumer(AsyncWebsocketConsumer):
    """An address that shows nothing: the handshake is refused."""

    channel_layer_alias = None

    async def connect(self) -> None:
        await self.close()


class OpenSockets:
    """The open sockets of one event loop: their shared reads, and the rounds that look logins up again."""

    def __init__(self) -> None:
        self.sockets: set[LiveConsumer] = set()
        self.lists = ListFeed()
        self._broadcasts: weakref.WeakValueDictionary[int, JobBroadcast] = weakref.WeakValueDictionary()
        self._rounds: asyncio.Task | None = None
        self._loop = asyncio.get_running_loop()
        self._announced: set[int] = set()
        self._early_round: asyncio.Task | None = None
        self._lock = asyncio.Lock()

    def broadcast(self, job: int) -> JobBroadcast:
        return self._broadcasts.setdefault(job, JobBroadcast(job))

    def join(self, socket: LiveConsumer) -> None:
        self.sockets.add(socket)
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.ensure_future(self._check_in_rounds())
            login_changes().subscribe(self.on_login_change)

    def leave(self, socket: LiveConsumer) -> None:
        self.sockets.discard(socket)
        if not self.sockets and self._rounds:
            self._rounds.cancel()
            self._rounds = None
            login_changes().unsubscribe(self.on_login_change)

    def on_login_change(self, user: int) -> None:
        """That somebody's rights may have changed; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed under us
            self._loop.call_soon_threadsafe(self._check_soon, user)

    def _check_soon(self, user: int) -> None:
        self._announced.add(user)
        if self._early_round is None or self._early_round.done():
            self._early_round = asyncio.ensure_future(self._check_named_users())

    async def _check_named_users(self) -> None:
        """For those who were named, and again for who was named meanwhile."""
        while self._announced:
            users, self._announced = self._announced, set()
            try:
                await self._check(users)
            except Error as error:
                logger.warning("Logins that may have changed cannot be looked up now: %s", error)

    async def _check_in_rounds(self) -> None:
        """1. wait  2. skip the round if nothing was written since the last  3. look each login up once."""
        num_commits, checked_at, took = -1, time.monotonic(), 0.0
        while True:
            await asyncio.sleep(min(max(took / CHECK_SHARE, CHECK_SECONDS[0]), CHECK_SECONDS[1]))
            if (
                num_commits == subscriptions().num_commits
                and time.monotonic() - checked_at < CHECK_ANYWAY_SECONDS
            ):
                continue
            num_commits, checked_at = subscriptions().num_commits, time.monotonic()
            try:
                await self._check()
            except Error as error:
                num_commits = -1
                logger.warning("The logins of open sockets cannot be looked up now: %s", error)
            took = time.monotonic() - checked_at

    async def _check(self, users: Collection[int] = (ANYBODY,)) -> None:
        async with self._lock:
            by_credential: dict[Credential | None, list[LiveConsumer]] = defaultdict(list)
            for socket in self.sockets:
                if ANYBODY in users or (socket.login and socket.login.user.pk in users):
                    by_credential[socket.credential].append(socket)
            for credential, sockets in by_credential.items():
                login = await in_database(look_up)(credential)
                for socket in sockets:
                    await (socket.check(login) if login else socket.leave(NO_LOGIN))


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, OpenSockets] = weakref.WeakKeyDictionary()


def open_sockets() -> OpenSockets:
    """Those of the running event loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), OpenSockets())


def _is_ping(text: str | None) -> bool:
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("type") == "ping"


def _number(values: list[str]) -> int:
    text = values[-1]
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_NUMBER):
        raise BadQuery(text)
    return int(text)


def _ids(values: list[str]) -> tuple[int, ...]:
    words = [word for word in ",".join(values).split(",") if word]
    if len(words) > MAX_IDS:
        raise BadQuery(f"{len(words)} ids")
    return tuple(_number([word]) for word in words)
