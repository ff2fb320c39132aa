"""Rows written by another process arrive at open sockets."""

import json
from pathlib import Path

import pytest

from tests.live.server import connect, wait_until, watching
from tests.support import postgres

pytestmark = pytest.mark.processes


async def test_a_job_is_shown_as_it_runs(server, writer, running):
    who, job = running
    writer.beat(job=job, first=1, last=3, log="hello\n")
    async with watching(server, f"/ws/training/{job}/", session=who["session"]) as client:
        picture = await client.receive()
        assert picture["type"] == "picture"
        assert picture["job"]["verbs"] == ["pause", "cancel"]
        assert [row["step"] for row in picture["steps"]] == [1, 2, 3]
        assert picture["seq"] == picture["job"]["event_seq"] == picture["events"][-1]["seq"]

        writer.beat(job=job, first=4, last=6, closes=True, log="world\n")
        await client.until(lambda seen: seen.epochs)
        assert (client.steps, client.epochs, client.log) == ([1, 2, 3, 4, 5, 6], [1], "hello\nworld\n")
        assert client.messages[-1]["type"] == "changes"
        assert client.messages[-1]["epochs"][0]["odd"] is None  # not a number

        writer.verb(verb="pause", job=job, by=who["name"])
        await client.until(lambda seen: seen.job["stop"])
        assert client.job["headline"] == "pausing at the end of epoch 2"
        assert client.events == list(range(1, len(client.events) + 1))


async def test_the_list_shows_new_changed_and_deleted_jobs(server, writer, person):
    who, stranger = person(), person()
    old = writer.submit(by=who["name"])
    async with watching(server, "/ws/training/", session=who["session"]) as client:
        assert (await client.receive())["type"] == "picture"
        assert list(client.jobs) == [old]
        writer.submit(by=stranger["name"])
        new = writer.submit(by=who["name"], name="a new one")
        await client.until(lambda seen: new in seen.jobs)
        assert client.jobs[new]["verbs"] == ["pause", "cancel"]
        writer.verb(verb="cancel", job=old, by=who["name"])
        await client.until(lambda seen: seen.jobs[old]["status"] == "cancelled")
        writer.verb(verb="delete", job=old, by=who["name"])
        await client.until(lambda seen: list(seen.jobs) == [new])
        assert {job["owner"] for message in client.messages for job in message["jobs"]} == {who["name"]}


async def test_the_list_keeps_to_the_newest_fifty(server, writer, person):
    who = person()
    jobs = [writer.submit(by=who["name"]) for _ in range(51)]
    async with watching(server, "/ws/training/", token=who["token"], origin=None) as client:
        await client.receive()
        assert sorted(client.jobs) == jobs[1:]
        jobs.append(writer.submit(by=who["name"]))
        await client.until(lambda seen: jobs[-1] in seen.jobs)
        assert sorted(client.jobs) == jobs[2:]


async def test_a_list_of_given_jobs_stays_with_them(server, writer, person):
    who, stranger = person(), person()
    jobs = [writer.submit(by=who["name"]) for _ in range(3)]
    foreign = writer.submit(by=stranger["name"])
    ids = f"{jobs[0]},{jobs[1]},{foreign},999999"
    async with watching(server, f"/ws/training/?ids={ids}", session=who["session"]) as client:
        await client.receive()
        assert sorted(client.jobs) == jobs[:2]
        writer.verb(verb="cancel", job=jobs[2], by=who["name"])
        writer.submit(by=who["name"])
        writer.verb(verb="cancel", job=jobs[0], by=who["name"])
        await client.until(lambda seen: seen.jobs[jobs[0]]["status"] == "cancelled")
        assert sorted(client.jobs) == jobs[:2]


async def test_a_ping_is_answered_and_anything_else_is_ignored(server, running):
    who, job = running
    async with watching(server, f"/ws/training/{job}/", session=who["session"]) as client:
        await client.receive()
        for said in ('{"type": "pause"}', "no json", "[1]", '{"type": ["ping"]}', b"\x00\xff", "[" * 4000):
            await client.socket.send(said)
        await client.socket.send('{"type": "ping"}')
        assert await client.receive() == {"type": "pong"}
        await client.socket.send(json.dumps({"type": "ping", "padding": "x" * 5000}))
        assert await client.closed_with() in {1009, None}  # dropped, with or without a word


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=99999999999999999999", "after=1&step=1.5"])
async def test_a_bad_query_is_refused(server, running, query):
    who, job = running
    async with watching(server, f"/ws/training/{job}/?{query}", session=who["session"]) as client:
        assert await client.closed_with() == 4403


async def test_too_many_ids_are_refused(server, person):
    ids = ",".join(str(number) for number in range(201))
    async with watching(server, f"/ws/training/?ids={ids}", session=person()["session"]) as client:
        assert await client.closed_with() == 4403


async def test_nobody_listens_and_nothing_is_read(server, writer, running):
    """The tailer's connection to the database is open only while somebody listens."""
    who, job = running
    socket = await connect(server, f"/ws/training/{job}/", session=who["session"])
    await socket.recv()
    wait_until(lambda: _reading(server) > 0)
    await socket.close()
    wait_until(lambda: _reading(server) == 0)


def _reading(server) -> int:
    """How many descriptors of the database file the server holds open; how many connections listen."""
    if postgres.IS_DEFAULT:
        return postgres.server().num_listening()
    links = Path(f"/proc/{server.process.pid}/fd").iterdir()
    return sum(str(link.readlink()).endswith("heimdall.sqlite3") for link in links if link.is_symlink())
