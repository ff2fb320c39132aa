"""With REDIS_URL a message reaches a waiting worker at once; without Redis it goes through the database as ever."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django_q.models import OrmQ
from django_q.signing import SignedPackage
from redis import Redis

from tests.storage.servers import Wire
from tests.support.redis_server import RedisServer
from tests.support.running import PATIENCE, running
from training import queue, services
from training.queue import RedisBroker, redis_queue
from training.queue import broker as queue_broker


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def used(server, settings, db, monkeypatch):
    """Redis, empty, for an installation that a worker has joined."""
    settings.REDIS_URL = server.url
    monkeypatch.setattr(redis_queue, "_known", "")
    monkeypatch.setattr(redis_queue, "_away_until", 0.0)
    monkeypatch.setattr(redis_queue, "AWAY_SECONDS", 0.05)
    monkeypatch.setattr(redis_queue, "_logged_at", None)
    monkeypatch.setattr(queue_broker, "REDIS_WAIT_SECONDS", 0.1)
    services.join_installation()
    with Redis.from_url(server.url) as client:
        client.flushall()
        yield client


def name_of(taken) -> str:
    assert len(taken) == 1
    return SignedPackage.loads(taken[0][1])["name"]


def drained(broker) -> list[str]:
    names = []
    while taken := broker.dequeue():
        names.append(name_of(taken))
    return names


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_waits_gets_a_message_at_once(used, monkeypatch):
    monkeypatch.setattr(queue_broker, "REDIS_WAIT_SECONDS", 20.0 * PATIENCE)
    monkeypatch.setattr(redis_queue, "ANSWER_SECONDS", 30.0 * PATIENCE)
    redis_queue._client.cache_clear()
    used.config_resetstat()
    taken: list[str] = []

    def take() -> None:
        taken.append(name_of(RedisBroker().dequeue()))
        connection.close()

    taker = threading.Thread(target=take)
    taker.start()
    deadline = time.monotonic() + 20 * PATIENCE
    while not used.client_list(_type="normal") or "blpop" not in str(used.client_list()):
        assert time.monotonic() < deadline
    queue.wake(7)
    taker.join(40 * PATIENCE)
    assert taken == ["supervise 7"]
    assert used.info("commandstats")["cmdstat_blpop"]["calls"] == 1  # that very wait brought it
    assert not OrmQ.objects.exists()
    redis_queue._client.cache_clear()


@pytest.mark.django_db(transaction=True)
def test_each_message_is_taken_once_whoever_takes(used):
    for number in range(40):
        queue.wake(number)

    def take_all(_: int) -> list[str]:
        names = drained(RedisBroker())
        connection.close()
        return names

    with ThreadPoolExecutor(4) as takers:
        taken = [name for names in takers.map(take_all, range(4)) for name in names]
    assert sorted(taken) == sorted(f"supervise {number}" for number in range(40))


@pytest.mark.django_db(transaction=True)
def test_what_is_said_to_one_host_is_heard_by_that_host(used, settings):
    queue.wake(1)
    message = queue.announce_housekeeping(5)
    queue.wake_host(settings.NODE_NAME)
    assert queue.is_waiting(message)
    assert queue.num_waiting() == 2
    mine, settings.NODE_NAME = settings.NODE_NAME, "another"
    assert drained(RedisBroker()) == ["supervise 1"]
    settings.NODE_NAME = mine
    assert drained(RedisBroker()) == ["housekeep 5", "supervise -1"]
    assert not queue.is_waiting(message)
    assert queue.num_waiting() == 0


@pytest.mark.django_db(transaction=True)
def test_what_a_dead_cluster_was_told_can_be_forgotten(used):
    message = queue.announce_housekeeping(5)
    queue.forget_housekeeping()
    assert not queue.is_waiting(message)
    assert drained(RedisBroker()) == []


@pytest.mark.django_db(transaction=True)
def test_a_transaction_sends_its_messages_with_its_commit(used):
    with transaction.atomic():
        queue.wake(1)
        assert queue.num_waiting() == 0
        transaction.set_rollback(True)
    assert drained(RedisBroker()) == []
    with transaction.atomic():
        queue.wake(2)
    assert drained(RedisBroker()) == ["supervise 2"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "text", [b"", b"\x80\x04pickle", b"supervise", b"supervise x " + b"0" * 32, b"os.system 1 " + b"0" * 32]
)
def test_a_message_of_another_form_does_nothing(used, text):
    queue.wake(1)
    (name,) = used.keys()
    used.lpush(name, text)
    assert RedisBroker().dequeue() is None
    assert drained(RedisBroker()) == ["supervise 1"]


@pytest.mark.django_db(transaction=True)
def test_two_installations_share_one_redis(used, monkeypatch):
    queue.wake(1)
    monkeypatch.setattr(redis_queue, "_known", "f" * 32)
    assert drained(RedisBroker()) == []
    monkeypatch.setattr(redis_queue, "_known", "")
    assert drained(RedisBroker()) == ["supervise 1"]


@pytest.mark.django_db(transaction=True)
def test_wake_ups_that_nobody_takes_do_not_fill_redis(used, monkeypatch):
    monkeypatch.setattr(redis_queue, "MOST_MESSAGES", 10)
    for number in range(15):
        queue.wake(number)
    assert queue.num_waiting() == 10


@pytest.mark.django_db(transaction=True)
def test_without_redis_messages_go_through_the_database_and_back_again(used, server):
    server.stop()
    try:
        queue.wake(1)
        assert OrmQ.objects.count() == 1
        assert queue.num_waiting() == 1
        assert drained(RedisBroker()) == ["supervise 1"]
        message = queue.announce_housekeeping(2)
        assert queue.is_waiting(message)
    finally:
        server.start()
    deadline = time.monotonic() + 5 * PATIENCE
    while redis_queue.put("test", "is it there?") is False:
        assert time.monotonic() < deadline
    queue.wake(3)
    assert OrmQ.objects.count() == 1  # the one from before, and no other
    assert sorted(drained(RedisBroker())) == ["housekeep 2", "supervise 3"]


def test_the_log_says_once_that_redis_is_away_and_once_that_it_is_back(used, settings, caplog, monkeypatch):
    url = settings.REDIS_URL
    monkeypatch.setattr(redis_queue, "AWAY_SECONDS", 0.0)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert [redis_queue.count("some") for _ in range(3)] == [0, 0, 0]
    settings.REDIS_URL = url
    assert [redis_queue.count("some") for _ in range(3)] == [0, 0, 0]
    said = [record.message for record in caplog.records if record.name == "training.queue.redis_queue"]
    assert [line.partition(",")[0] for line in said] == ["Redis does not answer", "Redis answers again."]


@pytest.mark.django_db(transaction=True)
def test_what_lies_in_the_database_has_its_turn_however_busy_redis_is(used, monkeypatch):
    with monkeypatch.context() as away:
        away.setattr(redis_queue, "put", lambda key, payload: False)
        queue.wake(1)
    for number in (2, 3):
        queue.wake(number)
    broker = RedisBroker()
    assert "supervise 1" in {name_of(broker.dequeue()), name_of(broker.dequeue())}


@pytest.mark.django_db(transaction=True)
def test_a_silent_redis_holds_nobody_up(used, server, settings, monkeypatch):
    monkeypatch.setattr(redis_queue, "ANSWER_SECONDS", 0.3)
    redis_queue._client.cache_clear()
    wire = Wire(f"http://127.0.0.1:{server.port}")
    settings.REDIS_URL = wire.address.replace("http", "redis")
    wire.mode = "hole"
    began = time.monotonic()
    queue.wake(1)
    assert drained(RedisBroker()) == ["supervise 1"]
    assert time.monotonic() - began < 6 * PATIENCE
    wire.close()
    redis_queue._client.cache_clear()


@pytest.mark.processes
def test_a_worker_lives_through_the_death_of_redis(tmp_path, server):
    """Jobs that are submitted before, while and after Redis is gone all run, in the same cluster."""
    with running(tmp_path, REDIS_URL=server.url, HEIMDALL_CANARY_SECONDS="5") as site:
        first = site.submit(epochs=1)
        site.wait_for_status(first, "completed")
        assert not site.rows("select id from django_q_ormq")
        head = site.queue_heads()
        server.stop()
        try:
            second = site.submit(epochs=1)
            site.wait_for_status(second, "completed")
            assert "messages go through the database" in site.log
        finally:
            server.start()
        third = site.submit(epochs=1)
        site.wait_for_status(third, "completed")
        assert site.queue_heads() == head
