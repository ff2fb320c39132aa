"""One read and one frame for all at one place; whoever cannot take it now is woken, and nobody is told twice."""

import asyncio
from types import SimpleNamespace

import pytest

from training.live.backpressure import framed
from training.live.broadcast import JobBroadcast
from training.live.feeds import FeedPosition, Message
from training.live.subscriptions import Changes

HERE, NEXT = FeedPosition(after=1), FeedPosition(after=2)
NEWS = Message('{"type":"changes"}', "running", NEXT)


class Socket:
    def __init__(self, *, place: FeedPosition | None = HERE, rights: str = "all", takes: bool = True) -> None:
        self.place, self.shown = place, "running"
        self.login = SimpleNamespace(rights=(rights,))
        self.is_idle, self._takes = True, takes
        self.taken: list[bytes | None] = []
        self.num_hurried = 0

    def take(self, message: Message, frame: bytes | None) -> bool:
        if self._takes:
            self.taken.append(frame)
            self.place, self.shown = message.place, message.shown
        return self._takes

    def hurry(self) -> None:
        self.num_hurried += 1
        self.is_idle = False


class Feed:
    """Reads when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.is_reading = asyncio.Event()

    async def message(self, place, asked, shown, login) -> Message:
        self.asked.append((place, login.rights))
        self.is_reading.set()
        await self.may_read.wait()
        return NEWS if place == HERE else Message(None, "running", place)


@pytest.fixture
def tell(monkeypatch):
    """Have these sockets told; `meanwhile` happens while what is new is being read."""
    monkeypatch.setattr(
        "training.live.broadcast.subscriptions", lambda: SimpleNamespace(follow=_nothing, unfollow=_nothing)
    )
    monkeypatch.setattr("training.live.broadcast.JobFeed", lambda job: Feed())

    async def tell(*sockets: Socket, meanwhile=lambda audience: None) -> Feed:
        audience = JobBroadcast(7)
        feed = audience.feed
        for socket in sockets:
            audience.join(socket)
        feed.may_read.clear()
        audience.wake(Changes({7: 2}))
        if any(socket.place for socket in sockets):
            await asyncio.wait_for(feed.is_reading.wait(), 5)
            meanwhile(audience)
        feed.may_read.set()
        for _ in range(10):  # turns of the loop: nothing here waits for anything else
            await asyncio.sleep(0)
        for socket in sockets:
            audience.leave(socket)
        return feed

    return tell


async def test_those_at_one_place_share_one_read_and_the_same_bytes(tell):
    sockets = [Socket() for _ in range(3)]
    feed = await tell(*sockets)
    assert feed.asked == [(HERE, ("all",))]
    assert [socket.taken for socket in sockets] == [[framed(NEWS.text)]] * 3
    assert all(socket.place is NEXT and not socket.num_hurried for socket in sockets)


async def test_other_places_and_other_rights_are_read_for_themselves(tell):
    feed = await tell(Socket(), Socket(rights="few"), Socket(place=NEXT))
    assert sorted(feed.asked, key=str) == sorted(
        [(HERE, ("all",)), (HERE, ("few",)), (NEXT, ("all",))], key=str
    )


async def test_one_that_cannot_take_it_is_woken_and_stays_where_it_is(tell):
    quick, slow, new = Socket(), Socket(takes=False), Socket(place=None)
    await tell(quick, slow, new)
    assert (quick.num_hurried, slow.num_hurried, new.num_hurried) == (0, 1, 1)
    assert (slow.place, new.place) == (HERE, None)


async def test_one_that_moved_on_meanwhile_is_not_told_again(tell):
    socket = Socket()
    await tell(socket, meanwhile=lambda audience: setattr(socket, "place", NEXT))
    assert (socket.taken, socket.num_hurried) == ([], 1)


async def test_one_whose_rights_changed_meanwhile_is_told_what_it_may_see(tell):
    socket = Socket()
    await tell(socket, meanwhile=lambda audience: setattr(socket.login, "rights", ("few",)))
    assert (socket.taken, socket.num_hurried) == ([], 1)


async def test_one_that_left_meanwhile_is_told_nothing(tell):
    gone, here = Socket(), Socket()
    await tell(gone, here, meanwhile=lambda audience: audience.leave(gone))
    assert (gone.taken, gone.num_hurried, len(here.taken)) == ([], 0, 1)


def _nothing(*_args) -> None:
    pass
