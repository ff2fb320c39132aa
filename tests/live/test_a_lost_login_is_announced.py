"""A logout, a revoked token, an inactive user and a left team reach the sockets of every web process at once."""

import asyncio
import threading
import time

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.backends.db import SessionStore
from redis import Redis

from tests.live.broken_layer import BrokenLayer
from tests.live.server import Client, Server, Writer, wait_until
from tests.support.redis_server import RedisServer
from tests.support.running import PATIENCE
from training.live import login_changes
from training.live.login_changes import ANYBODY, LoginChanges
from training.services import tokens

FAR = "tests.live.far_rounds:application"


class Heard:
    """What an channel told."""

    def __init__(self, channel: LoginChanges) -> None:
        self.users: list[int] = []
        self._news = threading.Condition()
        channel.subscribe(self.hear)
        assert channel.has_joined.wait(10 * PATIENCE)

    def hear(self, user: int) -> None:
        with self._news:
            self.users.append(user)
            self._news.notify()

    def until(self, *users: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: set(users) <= set(self.users), 10 * PATIENCE), self.users


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.stop()


@pytest.fixture
def announcer_on():
    """announcer_on(layer): one more, that ends with the test."""
    made = []

    def make(layer) -> LoginChanges:
        made.append(LoginChanges(layer))
        return made[-1]

    yield make
    for channel in made:
        asyncio.run_coroutine_threadsafe(cancel_all(), channel._loop).result(10 * PATIENCE)
        channel._loop.call_soon_threadsafe(channel._loop.stop)
        channel._thread.join(10 * PATIENCE)
        channel._loop.close()


async def cancel_all() -> None:
    """Again and again: a client whose server has just gone may lose one cancellation beside its own error."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=0.5)


def layer_of(redis: RedisServer) -> RedisChannelLayer:
    return RedisChannelLayer(hosts=[{"address": redis.url, "socket_timeout": 15}], prefix="heimdall")


@pytest.mark.processes
async def test_two_web_processes_and_a_command_tell_each_other_through_redis(redis, tmp_path):
    """The rounds of both servers are an hour apart; the writer is a third process, as a command is."""
    one = Server(tmp_path, application=FAR, REDIS_URL=redis.url)
    two = Server(tmp_path, application=FAR, REDIS_URL=redis.url)
    writer = Writer(one.environment)
    try:
        await asyncio.to_thread(writer.migrate)
        people = {
            why: writer.person(name=why, team="radar") for why in ("logout", "revoked", "inactive", "left")
        }
        owner = writer.person(name="owner", team="radar")
        job = writer.submit(by=owner["name"], team="radar")
        await asyncio.gather(asyncio.to_thread(one.start), asyncio.to_thread(two.start))
        clients = {}
        for why, who in people.items():
            login = (
                {"token": who["token"], "origin": None} if why == "revoked" else {"session": who["session"]}
            )
            clients[why] = [await Client(s, f"/ws/training/{job}/", **login).open() for s in (one, two)]
        stays = await Client(two, f"/ws/training/{job}/", session=owner["session"]).open()
        for client in [stays, *(each for both in clients.values() for each in both)]:
            await client.receive()
        await asyncio.to_thread(wait_until, lambda: num_listening(redis) == 2)

        writer.log_out(session=people["logout"]["session"])
        writer.revoke(token=people["revoked"]["token"])
        writer.deactivate(name="inactive")
        writer.leave_team(name="left", team="radar")
        for why, code in {"logout": 4401, "revoked": 4401, "inactive": 4401, "left": 4404}.items():
            assert [await client.closed_with() for client in clients[why]] == [code, code]
        writer.verb(verb="cancel", job=job, by="owner")
        await stays.until(lambda seen: seen.job["status"] == "cancelled")
        await stays.close()
    finally:
        for server in (one, two):
            server.kill()
        writer.close()


def num_listening(redis: RedisServer) -> int:
    with Redis.from_url(redis.url) as client:
        return sum(client.zcard(name) for name in client.keys("heimdall*group*logins"))


@pytest.mark.django_db(transaction=True)
def test_whatever_takes_a_right_names_its_user(announcer_on, monkeypatch):
    mine = announcer_on(InMemoryChannelLayer())
    heard = Heard(mine)
    monkeypatch.setattr(login_changes, "_of_processes", {login_changes.os.getpid(): mine})
    team = Group.objects.create(name="radar")
    alice, bob, carol, dave = (
        User.objects.create(username=name) for name in ("alice", "bob", "carol", "dave")
    )
    token, _ = tokens.make_token(alice, name="a script")
    session = SessionStore()
    session["_auth_user_id"] = str(bob.pk)
    session.create()
    User.objects.get(pk=dave.pk).save(update_fields=["last_login"])  # a login takes nothing
    assert heard.users == []

    tokens.revoke_token(token)
    heard.until(alice.pk)
    session.delete()
    heard.until(alice.pk, bob.pk)
    carol.is_active = False
    carol.save()
    heard.until(carol.pk)
    assert dave.pk not in heard.users
    team.user_set.add(dave)
    heard.until(dave.pk)
    heard.users.clear()
    dave.groups.remove(team)
    alice.user_permissions.add(Permission.objects.get(codename="view_trainingjob"))
    heard.until(dave.pk, alice.pk)
    assert ANYBODY not in heard.users
    team.permissions.add(Permission.objects.get(codename="view_trainingjob"))
    heard.until(ANYBODY)
    gone = bob.pk
    bob.delete()
    heard.until(gone)


@pytest.mark.parametrize("away", ["down", "emptied"])
def test_announcements_go_on_when_redis_is_back(redis, announcer_on, monkeypatch, away):
    monkeypatch.setattr(login_changes, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(login_changes, "REJOIN_SECONDS", 0.1)
    here, there = announcer_on(layer_of(redis)), announcer_on(layer_of(redis))
    heard = Heard(there)
    here.publish(1)
    heard.until(1)
    if away == "down":
        redis.stop()
        here.publish(2)
        redis.start()
    else:
        with Redis.from_url(redis.url) as client:
            client.flushall()
    for user in range(3, 3 + int(100 * PATIENCE)):
        here.publish(user)
        if len(heard.users) > 1:
            return
        time.sleep(0.1)
    pytest.fail("nothing was heard again")


def test_a_layer_that_raises_or_hangs_holds_nobody_up(announcer_on, monkeypatch):
    monkeypatch.setattr(login_changes, "MOST_UNSENT", 10)
    for layer in (BrokenLayer(), Silent()):
        channel = announcer_on(layer)
        channel.subscribe(lambda user: pytest.fail("nothing was sent"))
        began = time.monotonic()
        for user in range(1_000):
            channel.publish(user)
        assert time.monotonic() - began < 1 * PATIENCE


class Silent(BrokenLayer):
    """Hangs where it is asked to send, too."""

    async def send(self, *words: object) -> None:
        await self.new_channel()

    group_add = group_discard = group_send = send
