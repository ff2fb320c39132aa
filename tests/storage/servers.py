"""S3 servers for tests: two independent ones, one that fails on purpose, and a wire that can be cut."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BUCKET = "heimdall"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a-test", "AWS_SECRET_ACCESS_KEY": "not-very-secret"}
PIECE = 64 * 1024


@contextmanager
def moto() -> Iterator[str]:
    """The address of moto's server, in threads of this process."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    threaded = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        threaded.stop()


@contextmanager
def rclone(folder: Path, *, log: Path | None = None) -> Iterator[str]:
    """The address of `rclone serve s3` over a folder, in which each bucket is a folder."""
    program = rclone_program() or pytest.skip("rclone is not installed")
    port = free_port()
    keys = ",".join(CREDENTIALS.values())
    command = [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--auth-key", keys,
               "--config", "/dev/null"]  # fmt: skip
    with open(log or folder.with_suffix(".log"), "wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # asked gently it waits for idle connections, for minutes
        process.wait()


def rclone_program() -> str | None:
    return shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Wire:
    """A TCP proxy before a server. `mode` may change at any time, for what flows already too.

    pass: everything goes through. cut: connections are reset. hole: bytes vanish, and nothing ever comes back.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._serve_on(socket.create_server(("127.0.0.1", 0)))

    def _serve_on(self, listener: socket.socket) -> None:
        self._listener = listener
        self._open: set[socket.socket] = set()
        self.mode = "pass"
        self.cut_after: int | None = None  # bytes to the client, of all connections together
        self.num_bytes = 0
        self.swallowed = threading.Event()  # a hole has taken something in
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        self.mode = "cut"
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.mode == "cut":
                    client.close()
                    continue
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            client.close()
            return
        self._open |= {client, server}
        back = threading.Thread(target=self._pump, args=(server, client, True), daemon=True)
        back.start()
        self._pump(client, server, False)
        back.join()
        self._open -= {client, server}
        client.close()
        server.close()

    def _connect(self) -> socket.socket:
        server = socket.create_connection(self._target, timeout=10)
        server.settimeout(None)
        return server

    def _pump(self, source: socket.socket, target: socket.socket, to_client: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE):
                if self.mode == "hole":
                    self.swallowed.set()
                    continue
                if to_client:
                    self.num_bytes += len(piece)
                    if self.cut_after is not None and self.num_bytes > self.cut_after:
                        self.cut()
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Failing:
    """An S3 server that answers every request by `answer`: a status and S3's code for it, after `delay` seconds."""

    def __init__(self) -> None:
        self.answer, self.delay, self.num_requests = (503, "SlowDown"), 0.0, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _refuse(self) -> None:
                outer.num_requests += 1
                length = int(self.headers.get("Content-Length", 0))
                self.rfile.read(length)
                time.sleep(outer.delay)
                status, code = outer.answer
                text = f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _refuse

            def log_message(self, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
