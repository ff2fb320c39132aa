"""The tailer by itself, on each kind of database, against writers that make it hard."""

import asyncio
import sqlite3
import subprocess
import sys

import pytest

from tests.live.server import ROOT
from tests.support import postgres
from tests.support.running import PATIENCE
from training.live.feeds import Shared, to_json

SCRIPT = """
import asyncio, os, threading, django
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
PATIENCE = float(os.environ.get("HEIMDALL_TEST_PATIENCE", "1"))
django.setup()
from django.db import connection, connections, transaction
from training import services
from training.live import tailer
from training.models import TrainingJob
from training.live.subscriptions import Subscriptions

from django.contrib.auth.models import User
owner = User.objects.create(username="tailed")
another = User.objects.create(username="another")  # two of one person's jobs are submitted one after the other
jobs = [services.submit(by=owner, job_name="a", recipe="tiny", config={}).job.pk for _ in range(3)]
connection.close()

class Ear:
    def __init__(self): self.heard, self.changed = [], asyncio.Event()
    def wake(self, changes): self.heard.append(changes); self.changed.set()
    async def until(self, holds):
        async with asyncio.timeout(10 * PATIENCE):
            while not any(holds(one) for one in self.heard):
                self.changed.clear()
                await self.changed.wait()
        self.heard.clear()

def write(statement, *values):
    other = connections.create_connection("default")
    other.inc_thread_sharing()
    with other.cursor() as cursor: cursor.execute(statement, values)
    other.close()

def tailers(): return [one for one in threading.enumerate() if one.name == "tailer"]

async def main():
    loop = asyncio.get_running_loop()
    board, ear = Subscriptions(), Ear()
    assert not tailers()
    board.follow(ear, jobs[:2])
    await ear.until(lambda one: set(one.jobs) == set(jobs[:2]))      # once soon, in any case
    assert len(tailers()) == 1

    write("UPDATE training_trainingjob SET updated_at = '2001-01-01 00:00:00' WHERE id = %s", jobs[0])
    await ear.until(lambda one: set(one.jobs) == {jobs[0]})          # a clock that was set back
    write("UPDATE training_trainingjob SET job_name = 'b' WHERE id = %s", jobs[0])
    await ear.until(lambda one: jobs[0] in one.jobs)                 # the same millisecond again: looked at again
    write("UPDATE training_trainingjob SET updated_at = '2002-01-01 00:00:00' WHERE id = %s", jobs[2])
    write("UPDATE training_trainingjob SET event_seq = 9 WHERE id = %s", jobs[1])
    await ear.until(lambda one: one.jobs == {jobs[1]: 9})            # not the one that nobody follows

    await asyncio.to_thread(lock_for_a_while)                        # a database that cannot be read
    write("UPDATE training_trainingjob SET event_seq = 10 WHERE id = %s", jobs[1])
    await ear.until(lambda one: one.jobs.get(jobs[1]) == 10)

    board.follow(ear, (), new=True)
    await ear.until(lambda one: one.has_new)
    write("DELETE FROM training_configvalue WHERE job_id = %s", jobs[0])
    write("DELETE FROM training_event WHERE job_id = %s", jobs[0])
    write("DELETE FROM training_trainingjob WHERE id = %s", jobs[0])
    await ear.until(lambda one: one.jobs.get(jobs[0], 0) is None)    # gone
    new = await asyncio.to_thread(submit)
    await ear.until(lambda one: one.has_new)
    if connection.vendor == "postgresql":
        await asyncio.to_thread(submit_out_of_order, lambda: asyncio.run_coroutine_threadsafe(
            ear.until(lambda one: one.has_new), loop).result(10 * PATIENCE))
        await ear.until(lambda one: one.has_new)                     # the one with the smaller number, too

    board.unfollow(ear, jobs[:2], new=True)
    await until_no_tailer()

def submit_out_of_order(heard):
    with transaction.atomic():
        first = services.submit(by=owner, job_name="late", recipe="tiny", config={}).job.pk
        second = []
        other = threading.Thread(target=lambda: second.append(submit()))
        other.start()
        other.join()
        assert second[0] > first
        heard()
    connection.close()

def submit():
    pk = services.submit(by=another, job_name="a", recipe="tiny", config={}).job.pk
    connection.close()
    return pk

def lock_for_a_while():
    look, fails = tailer._fingerprints, []
    def raising(jobs):
        if len(fails) < 2:
            fails.append(1)
            raise django.db.OperationalError("disk I/O error") if len(fails) == 1 else KeyError("unforeseen")
        return look(jobs)
    tailer._fingerprints = raising
    write("UPDATE training_trainingjob SET event_seq = event_seq WHERE id = %s", jobs[1])

async def hear_each_sign():
    # No look is due anyway for an hour: only a sign of the change can have led to it.
    tailer.FULL_LOOK_SECONDS = tailer.AGAIN_SECONDS = 3600.0
    board, ear = Subscriptions(), Ear()
    board.follow(ear, jobs[1:2])
    await ear.until(lambda one: True)
    for number in range(10):
        write("UPDATE training_trainingjob SET event_seq = %s WHERE id = %s", 100 + number, jobs[1])
        await ear.until(lambda one: one.jobs.get(jobs[1]) == 100 + number)
    board.unfollow(ear, jobs[1:2])
    await until_no_tailer()
    tailer.FULL_LOOK_SECONDS, tailer.AGAIN_SECONDS = usual

async def until_no_tailer():
    async with asyncio.timeout(5 * PATIENCE):
        while tailers(): await asyncio.sleep(0.02)                   # nobody listens: no tailer

usual = tailer.FULL_LOOK_SECONDS, tailer.AGAIN_SECONDS
asyncio.run(hear_each_sign())
asyncio.run(main())
print("found every change")
"""


@pytest.mark.processes
@pytest.mark.parametrize("kind", postgres.KINDS)
def test_every_change_is_found(server, kind, request):
    environment = server.environment
    if kind == "postgres":
        environment = environment | {"DATABASE_URL": request.getfixturevalue("postgresql").copy("tailer")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )
    assert done.stdout.strip() == "found every change", done.stderr


async def test_a_read_is_shared_until_something_changes():
    tick, num_reads = [0], [0]
    shared = Shared(lambda: tick[0], limit=2)

    async def read():
        num_reads[0] += 1
        await asyncio.sleep(0)
        return num_reads[0]

    assert await asyncio.gather(*(shared.get("place", read) for _ in range(500))) == [1] * 500
    assert await shared.get("another place", read) == 2
    tick[0] += 1
    assert await shared.get("place", read) == 3
    assert [await shared.get(place, read) for place in range(10)] == list(range(4, 14))
    assert await shared.get(9, read) == 13
    assert await shared.get("place", read) == 14  # only the newest two were kept


async def test_a_read_that_failed_is_tried_again_and_one_that_is_waited_for_by_others_goes_on():
    shared, outcomes = Shared(lambda: 0, limit=2), [sqlite3.OperationalError("locked"), "rows"]
    gate = asyncio.Event()

    async def read():
        await gate.wait()
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    waiting = [asyncio.ensure_future(shared.get("place", read)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [
        asyncio.CancelledError,
        sqlite3.OperationalError,
        sqlite3.OperationalError,
    ]
    assert await shared.get("place", read) == "rows"


def test_numbers_that_json_does_not_know_are_null():
    assert to_json({"a": [float("nan"), 1.5, {"b": float("inf")}]}) == '{"a":[null,1.5,{"b":null}]}'
