"""Taking messages: at once at a sign, one taker each, and by a host that has room for a job."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, connections

from tests.services.test_races_have_one_winner import at_once
from tests.support.running import PATIENCE
from training import host, queue
from training.services.clock import in_seconds

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("each_database")]


@pytest.fixture
def broker(monkeypatch):
    """As in a worker's process, where connections are kept."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
    connection.close()
    broker = queue.Broker("heimdall")
    yield broker
    if broker._listener:
        broker._listener.close()
    connection.close()


def test_a_message_wakes_who_waits_long_before_the_look_that_is_due_anyway(broker, monkeypatch):
    monkeypatch.setattr(queue.broker, "LOOK_ANYWAY_SECONDS", 60.0)
    assert [broker.dequeue() for _ in range(3)] == [None] * 3  # the first looks; from then on it waits
    monkeypatch.setattr(queue.broker, "WAIT_SECONDS", 20.0 * PATIENCE)
    waits, wait = threading.Event(), broker._listener.wait
    monkeypatch.setattr(broker._listener, "wait", lambda seconds: waits.set() or wait(seconds))

    def send_to_one_who_waits() -> None:
        if waits.wait(20 * PATIENCE):
            queue.wake(7)
        connections.close_all()

    sender = threading.Thread(target=send_to_one_who_waits)
    sender.start()
    assert len(broker.dequeue()) == 1  # of one wait: without a sign it would end with nothing
    sender.join()


def test_six_takers_take_each_message_once(broker):
    for number in range(30):
        queue.wake(number)

    def take_all() -> list[int]:
        taken = []
        while rows := queue.broker._take_messages(queue.broker._for_this_host("heimdall")):
            taken += [pk for pk, _ in rows]
        return taken

    taken = [pk for one in at_once(*[take_all] * 6) for pk in one]
    assert len(taken) == len(set(taken)) >= 30 - 6  # one who finds all that is left in others' hands goes
    assert queue.num_waiting() == 30 - len(taken)


def test_a_host_without_a_free_slot_leaves_a_wake_up_to_others_for_a_moment(broker):
    held = host.slot_lock(0)
    assert held.acquire()
    try:
        queue.wake()
        queue.announce_housekeeping(5)
        first = broker.look()
        if connection.vendor == "sqlite":  # there are no others
            assert first[0][1].startswith("supervise ")
            return
        assert first[0][1].startswith("housekeep ")
        assert broker.look() == []
        queue.messages.OrmQ.objects.update(lock=in_seconds(-queue.broker.FOR_OTHERS_SECONDS - 0.1))
        assert broker.look()[0][1].startswith("supervise ")
    finally:
        held.release()
    queue.wake()
    assert broker.look()[0][1].startswith("supervise ")  # at once, with a slot


def test_only_the_taking_of_a_message_does_not_wait_for_the_disk(broker):
    question, answer = (
        ("PRAGMA synchronous", 2) if connection.vendor == "sqlite" else ("SHOW synchronous_commit", "on")
    )
    queue.wake()
    seen = []
    with connection.execute_wrapper(lambda execute, sql, *args: (seen.append(sql), execute(sql, *args))[1]):
        assert broker.look()
    assert any("synchronous" in sql for sql in seen)
    with connection.cursor() as cursor:
        cursor.execute(question)
        assert cursor.fetchone() == (answer,)
