"""A broken channel layer, a web process that hangs, and a client that does not read: the writers notice nothing."""

import asyncio
import json
import os
import signal
import socket
from urllib.request import Request, urlopen

import pytest
import websockets

from tests.live.server import Client, Server, connect, watching
from training.live.feeds import LOG_CHARACTERS

pytestmark = pytest.mark.processes


async def test_a_channel_layer_that_raises_and_hangs_has_no_effect(server, writer, running):
    """On what its web process writes and on what its sockets show."""
    who, job = running
    broken = Server(server.folder, DJANGO_SETTINGS_MODULE="tests.live.broken_layer")
    try:
        await asyncio.to_thread(broken.start)
        async with watching(broken, f"/ws/training/{job}/", session=who["session"]) as client:
            await client.receive()
            assert await asyncio.to_thread(ask_to_pause, broken, job, who["token"]) == 202
            writer.beat(job=job, first=1, last=20)
            await client.until(lambda seen: seen.job["stop"] and len(seen.steps) == 20)
    finally:
        broken.kill()


def ask_to_pause(server: Server, job: int, token: str) -> int:
    address = f"http://127.0.0.1:{server.port}/v1/training/jobs/{job}/pause"
    headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
    with urlopen(Request(address, data=b"{}", headers=headers, method="POST"), timeout=20) as answer:
        return answer.status


async def test_a_web_process_that_hangs_delays_no_beat(server, writer, running):
    who, job = running
    async with watching(server, f"/ws/training/{job}/", session=who["session"]) as client:
        await client.receive()
        writer.beat(job=job, first=1, last=1)  # it is reading about now
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            assert await asyncio.to_thread(writer.touch, job=job, count=30, pause=0.01) < 5
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        await client.until(lambda seen: len(seen.steps) == 30)


async def test_a_client_that_does_not_read_costs_no_memory_and_loses_nothing(counted, writer, running):
    who, job = running
    path = f"/ws/training/{job}/"
    async with watching(counted, path, session=who["session"]) as quick:
        await quick.receive()
        await asyncio.to_thread(bytes_held, counted)  # the count begins
        await asyncio.to_thread(writer.long_log, job=job, chunks=20, characters=60_000)
        await quick.until(lambda seen: seen.num_characters == 1_200_000)
        pipe = socket.socket()
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pipe.connect(("127.0.0.1", counted.port))
        slow = Client(counted, path, session=who["session"])
        slow.socket = await connect(counted, path, token=who["token"], origin=None, sock=pipe, max_queue=1)
        await slow.receive()
        had = slow.num_characters

        before = await asyncio.to_thread(bytes_held, counted)
        await asyncio.to_thread(writer.long_log, job=job, chunks=200, characters=60_000)
        await quick.until(lambda seen: seen.num_characters == 13_200_000)
        held = await asyncio.to_thread(bytes_held, counted) - before
        assert held < 8 * LOG_CHARACTERS  # of the 12 MB that wait for the slow one
        assert slow.num_characters == had
        try:
            await slow.until(lambda seen: seen.num_characters == had + 12_000_000)
        except (
            websockets.ConnectionClosed
        ):  # on a busy host it may not have answered the server's pings in time
            await slow.open()
            await slow.until(lambda seen: seen.num_characters == had + 12_000_000)
    assert quick.log.endswith(slow.log)
    await slow.close()


@pytest.fixture
def counted(server):
    """A second web server on the same data, which counts what it holds."""
    counted = Server(server.folder, application="tests.live.counted:application")
    counted.start()
    yield counted
    counted.kill()


def bytes_held(server: Server) -> int:
    with urlopen(f"http://127.0.0.1:{server.port}/counted/", timeout=60) as answer:
        return int(answer.read())


async def test_a_flood_of_messages_ends_the_connection(server, running):
    who, job = running
    async with watching(server, f"/ws/training/{job}/", session=who["session"]) as client:
        await client.receive()
        for _ in range(200):
            await client.socket.send(json.dumps({"type": "noise"}))
        assert await client.closed_with() == 4408
