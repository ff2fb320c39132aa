"""A real web server on a data folder of its own, another process that writes into its database, and clients."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import websockets

from tests.support import postgres

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
SHIPPED = "heimdall.site.asgi:application"
RECIPES = "tests.support.recipes.tiny,tests.support.recipes.shards"


class Server:
    """The web server in a process of its own."""

    def __init__(self, folder: Path, application: str = SHIPPED, **environment: str) -> None:
        self.folder, self.application = folder, application
        self.environment = os.environ | {
            "HEIMDALL_DATA_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
            "HEIMDALL_RECIPES": RECIPES,
            **environment,
        }
        self.environment.pop("DATABASE_URL", None)
        if postgres.IS_DEFAULT and "DATABASE_URL" not in environment:
            kept = folder / "database-url"  # for a second server on the same folder
            if not kept.exists():
                kept.write_text(postgres.server().copy("live"))
            self.environment["DATABASE_URL"] = kept.read_text()
        self.port = _free_port()
        self.environment["HEIMDALL_PORT"] = str(self.port)
        self.process: subprocess.Popen | None = None
        self.said: list[str] = []

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *self._command()],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._hear, args=(self.process,), daemon=True).start()
        wait_until(self._listens)

    def _command(self) -> list[str]:
        if self.application == SHIPPED:
            return ["manage.py", "web"]
        return ["-m", "tests.live.serve", self.application, str(self.port)]

    def kill(self, sign: int = signal.SIGKILL) -> None:
        if self.process:
            self.process.send_signal(sign)
            self.process.wait(PATIENCE)

    def memory_bytes(self) -> int:
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]

    def _listens(self) -> bool:
        assert self.process
        assert self.process.poll() is None, "".join(self.said)
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _hear(self, process: subprocess.Popen) -> None:
        assert process.stderr
        with process.stderr as lines:
            self.said.extend(lines)


class Writer:
    """writer.pause("x") runs the command `pause` over there and returns its result."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.writer"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            assert not args, "name the arguments"
            assert self._process.stdin
            assert self._process.stdout
            with self._lock:
                print(json.dumps({"call": name, "with": named}), file=self._process.stdin, flush=True)
                answer = json.loads(self._process.stdout.readline())
            assert "error" not in answer, answer["error"]
            return answer["result"]

        return call

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.terminate()  # between two commands; the end of its input may be held open by a forked child
        self._process.wait(PATIENCE)
        self._process.stdout.close()


class Client:
    """One socket, and what it was told: what a page would show."""

    def __init__(self, server: Server, path: str, **options: Any) -> None:
        self.server, self.path = server, path
        self.options = options
        self.messages: list[dict[str, Any]] = []
        self.events: list[int] = []
        self.steps: list[int] = []
        self.epochs: list[int] = []
        self.num_characters = 0
        self._log: list[str] = []
        self.job: dict[str, Any] = {}
        self.jobs: dict[int, dict[str, Any]] = {}
        self.next = ""

    async def open(self) -> Client:
        path = f"{self.path}?{self.next}" if self.next else self.path
        self.socket = await connect(self.server, path, **self.options)
        return self

    async def close(self) -> None:
        await self.socket.close()

    @property
    def log(self) -> str:
        return "".join(self._log)

    async def receive(self) -> dict[str, Any]:
        message = json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE))
        self.messages.append(message)
        self._take_in(message)
        return message

    async def until(self, holds: Any) -> None:
        """Receive until the condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not holds(self):
                await self.receive()

    async def closed_with(self) -> int | None:
        try:
            while True:
                await self.receive()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    def _take_in(self, message: dict[str, Any]) -> None:
        if "job" in message:
            if message["type"] == "picture":
                self.events, self.steps, self.epochs, self._log, self.num_characters = [], [], [], [], 0
            self.job, self.next = message["job"], message["next"]
            if "rolled_back_to" in message:
                to = message["rolled_back_to"]
                self.steps = [step for step in self.steps if step <= to["step"]]
                self.epochs = [epoch for epoch in self.epochs if epoch <= to["epoch"]]
            self.events += [event["seq"] for event in message["events"]]
            self.steps += [row["step"] for row in message["steps"]]
            self.epochs += [row["epoch"] for row in message["epochs"]]
            self._log += [chunk["text"] for chunk in message["log"]]
            self.num_characters += sum(len(chunk["text"]) for chunk in message["log"])
        elif "jobs" in message:
            if message["type"] == "picture":
                self.jobs = {}
            self.jobs |= {job["id"]: job for job in message["jobs"]}
            for job in message.get("gone", []):
                self.jobs.pop(job, None)


async def connect(
    server: Server,
    path: str,
    *,
    session: str = "",
    token: str = "",
    origin: str | None = "own",
    **options: Any,
) -> Any:
    headers = {}
    if session:
        headers["Cookie"] = f"heimdall_session={session}"
    if token:
        headers["Authorization"] = f"Token {token}"
    if origin == "own":
        origin = f"http://127.0.0.1:{server.port}"
    return await websockets.connect(
        f"ws://127.0.0.1:{server.port}{path}",
        origin=origin,
        additional_headers=headers,
        proxy=None,
        ping_interval=None,
        open_timeout=PATIENCE,
        max_size=8 * 1024 * 1024,
        **options,
    )


@asynccontextmanager
async def watching(server: Server, path: str, **options: Any):
    client = await Client(server, path, **options).open()
    try:
        yield client
    finally:
        await client.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
