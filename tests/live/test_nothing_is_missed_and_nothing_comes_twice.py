"""A socket that is cut goes on where it stopped; so do twenty when the server is killed."""

import asyncio

import pytest
import websockets

from tests.live.server import Client, watching

pytestmark = pytest.mark.processes


async def test_a_client_that_comes_back_gets_exactly_what_it_missed(server, writer, running):
    who, job = running
    client = Client(server, f"/ws/training/{job}/", token=who["token"], origin=None)
    written = asyncio.to_thread(writer.note, job=job, count=40, pause=0.01)
    beats = asyncio.ensure_future(written)
    for cut_after in (1, 2, 1, 3):
        await client.open()
        for _ in range(cut_after):
            await client.receive()
        client.socket.transport.abort()  # no goodbye
    await beats
    writer.beat(job=job, first=1, last=5, log="the end")
    await client.open()
    await client.until(lambda seen: seen.log.endswith("the end"))
    await client.close()
    assert client.messages[0]["type"] == "picture"
    assert {message["type"] for message in client.messages[1:]} == {"changes"}
    assert client.events == list(range(1, client.job["event_seq"] + 1))
    assert client.steps == [1, 2, 3, 4, 5]
    assert client.log == "the end"


async def test_a_position_from_the_start_gives_everything_in_bounded_messages(server, writer, person):
    who = person()
    job = writer.submit(by=who["name"], epochs=5)
    writer.claim(job=job)
    writer.note(job=job, count=230)
    for number in range(5):
        writer.beat(job=job, first=500 * number + 1, last=500 * number + 500, epoch=number + 1, closes=True)
    for letter in "abcd":
        writer.beat(job=job, log=letter * 30_000)
    client = Client(server, f"/ws/training/{job}/", session=who["session"])
    client.next = "after=0&step=0&epoch=0&log=0"
    await client.open()
    await client.until(lambda seen: len(seen.steps) == 2500 and len(seen.log) == 120_000)
    await client.until(lambda seen: len(seen.events) == seen.job["event_seq"])
    await client.close()
    assert client.events == list(range(1, client.job["event_seq"] + 1))
    assert client.steps == list(range(1, 2501))
    assert client.epochs == [1, 2, 3, 4, 5]
    assert "".join(sorted(client.log)) == client.log
    for message in client.messages:
        assert len(message["events"]) <= 200
        assert len(message["steps"]) <= 1000
        assert sum(len(chunk["text"]) for chunk in message["log"]) <= 64 * 1024


async def test_positions_left_out_start_at_the_present(server, writer, running):
    who, job = running
    writer.beat(job=job, first=1, last=9, log="before\n", closes=True)
    client = Client(server, f"/ws/training/{job}/", session=who["session"])
    client.next = "after=1"
    await client.open()
    await client.receive()
    writer.beat(job=job, first=10, last=10, epoch=2, log="after\n")
    await client.until(lambda seen: seen.log)
    await client.close()
    assert (client.steps, client.epochs, client.log) == ([10], [], "after\n")
    assert client.events == list(range(2, client.job["event_seq"] + 1))


async def test_a_position_beyond_the_end_is_answered_by_a_picture(server, writer, running):
    who, job = running
    client = Client(server, f"/ws/training/{job}/", session=who["session"])
    client.next = "after=1000"
    await client.open()
    assert (await client.receive())["type"] == "picture"
    await client.close()


async def test_a_rollback_takes_back_what_was_shown(server, writer, running):
    """Seen live, and by somebody who was away while it happened."""
    who, job = running
    writer.beat(job=job, first=1, last=10, epoch=1, closes=True)
    writer.store(job=job, step=10, epoch=1)
    writer.beat(job=job, first=11, last=25, epoch=2, closes=True)
    away = Client(server, f"/ws/training/{job}/", session=who["session"])
    await away.open()
    await away.receive()
    await away.close()
    async with watching(server, f"/ws/training/{job}/", session=who["session"]) as there:
        await there.receive()
        for client in (away, there):
            assert (client.steps[-1], client.epochs) == (25, [1, 2])
        writer.crash(job=job)
        await there.until(lambda seen: seen.job["status"] == "queued")
        assert (there.steps, there.epochs) == (list(range(1, 11)), [1])
        assert there.messages[-1]["rolled_back_to"] == {"step": 10, "epoch": 1}
        writer.claim(job=job)
        writer.beat(job=job, first=11, last=30, epoch=2, closes=True)
        await away.open()
        await away.receive()
        await away.close()
        await there.until(lambda seen: 2 in seen.epochs)
    for client in (away, there):
        assert (client.steps, client.epochs) == (list(range(1, 31)), [1, 2])
    assert away.messages[-1]["rolled_back_to"] == {"step": 10, "epoch": 1}
    assert [row["step"] for row in away.messages[-1]["steps"]] == list(range(11, 31))


async def test_a_restart_takes_everything_back(server, writer, running):
    who, job = running
    writer.beat(job=job, first=1, last=10, closes=True)
    async with watching(server, f"/ws/training/{job}/", session=who["session"]) as client:
        await client.receive()
        writer.verb(verb="cancel", job=job, by=who["name"])
        writer.crash(job=job)
        writer.verb(verb="restart", job=job, by=who["name"])
        await client.until(lambda seen: seen.job["status"] == "queued")
        assert (client.steps, client.epochs) == ([], [])


async def test_the_server_is_killed_while_twenty_watch(server, writer, running):
    """Each sees every event, step and piece of log once, whatever the moment of the kill."""
    who, job = running
    path = f"/ws/training/{job}/"
    clients = [Client(server, path, token=who["token"], origin=None) for _ in range(20)]
    for client in clients:
        client.next = "after=0&step=0&epoch=0&log=0"
    watchers = [asyncio.ensure_future(_watch_through_cuts(client)) for client in clients]
    await asyncio.to_thread(writer.note, job=job, count=25, pause=0.005)
    server.kill()
    await asyncio.to_thread(writer.note, job=job, count=25)
    writer.beat(job=job, first=1, last=700, log="while it was down\n")
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(writer.note, job=job, count=25, pause=0.005)
    writer.beat(job=job, first=701, last=702, log="the end")
    await asyncio.gather(*watchers)
    last = max(client.job["event_seq"] for client in clients)
    for client in clients:
        assert client.events == list(range(1, last + 1))
        assert client.steps == list(range(1, 703))
        assert client.log == "while it was down\nthe end"
    assert last >= 75


async def _watch_through_cuts(client) -> None:
    async with asyncio.timeout(60):
        while not client.log.endswith("the end"):
            try:
                await client.open()
                while not client.log.endswith("the end"):
                    await client.receive()
                await client.close()
            except (OSError, websockets.ConnectionClosed, websockets.InvalidHandshake, EOFError):
                await asyncio.sleep(0.1)  # as a page would
