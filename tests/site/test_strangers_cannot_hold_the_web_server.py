"""Half requests, slow ones, clients that take nothing, and too many connections: the web server goes on answering."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

import pytest
import websockets
from psutil import CONN_LISTEN, Process
from websockets.sync.client import connect

from tests.live.server import Server, wait_until

pytestmark = pytest.mark.processes

PATIENCE_OF_A_BUSY_MACHINE = float(os.environ.get("HEIMDALL_TEST_PATIENCE", "1"))  # seconds
HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


@contextmanager
def serving(folder, application="heimdall.site.asgi:application", **environment: str):
    """A web server with these settings."""
    server = Server(folder, application, **environment)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def dial(server: Server, sent: bytes = b"") -> socket.socket:
    found = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    found.sendall(sent)
    return found


def status_of(server: Server, path: str = "/healthz", **headers: str) -> int:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def is_cut(client: socket.socket) -> bool:
    """Read to the end of the connection, which has to come."""
    try:
        while client.recv(1_000_000):
            pass
    except ConnectionResetError:
        pass
    return True


def num_open(server: Server) -> int:
    """Connections that the server holds."""
    assert server.process
    found = Process(server.process.pid).net_connections("tcp")
    return sum(one.status != CONN_LISTEN for one in found)


def sends_until_cut(client: socket.socket, data: bytes) -> float:
    """Send it again and again, whatever is answered, until the server closes; the seconds that took."""
    began = time.monotonic()
    client.settimeout(0.1)
    while time.monotonic() - began < 60:
        try:
            client.sendall(data)
            if not client.recv(1000):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - began


@pytest.fixture
def many_files():
    """This process plays a thousand clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("most_of_one", ["200", "5000"])
def test_twelve_hundred_half_headers_take_nothing_from_others(tmp_path, many_files, most_of_one):
    bounds = {"HEIMDALL_MAX_CONNECTIONS": "600", "HEIMDALL_MAX_CONNECTIONS_PER_ADDRESS": most_of_one}
    with serving(tmp_path, HEIMDALL_HEADER_SECONDS="3", **bounds) as server, ExitStack() as clients:
        strangers = [clients.enter_context(dial(server, HALF)) for _ in range(1200)]
        assert status_of(server) == 200
        assert num_open(server) <= min(600, int(most_of_one))
        assert all(is_cut(one) for one in strangers)
        assert num_open(server) == 0
        assert not server.said


def test_the_limit_of_open_files_is_raised_and_bounds_the_connections(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with serving(tmp_path) as server:
            assert server.process
            found = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
            assert found[0] == hard or (hard == resource.RLIM_INFINITY and found[0] >= 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    with serving(
        tmp_path_factory.mktemp("strict"), HEIMDALL_HEADER_SECONDS="1", HEIMDALL_BODY_SECONDS="2"
    ) as server:
        yield server


def test_a_header_and_a_body_that_trickle_are_cut_though_bytes_come(strict):
    head = b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
    for sent, seconds in ((HALF, 1), (head, 2)):
        with dial(strict, sent) as client:
            assert seconds - 0.2 <= sends_until_cut(client, b"a") < 50


def test_what_comes_between_two_requests_keeps_no_connection(strict):
    """An empty line is skipped by the parser; it must not lift the deadline of the header that follows."""
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with dial(strict, request) as client:
        assert b"200 OK" in client.recv(1000)
        client.sendall(b"\r\n\r\n" + HALF)
        assert is_cut(client)


def test_a_client_that_takes_nothing_of_its_answer_is_cut(tmp_path):
    with (
        serving(tmp_path, "tests.site.plain:endless", HEIMDALL_BODY_SECONDS="1") as server,
        dial(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as client,
    ):
        assert client.recv(1)
        assert num_open(server) == 1
        wait_until(lambda: num_open(server) == 0)


def test_a_header_without_end_is_refused(tmp_path):
    with serving(tmp_path, HEIMDALL_HEADER_SECONDS="600") as server, dial(server, HALF) as client:
        assert sends_until_cut(client, b"a" * 65_536) < 50
        assert status_of(server) == 200


def test_one_address_has_so_many_sockets_and_a_place_that_is_left_is_free(tmp_path):
    bounds = {"HEIMDALL_MAX_CONNECTIONS_PER_ADDRESS": "5"}
    with serving(tmp_path, "tests.site.plain:patient", **bounds) as server, ExitStack() as opened:
        address = f"ws://127.0.0.1:{server.port}/"
        sockets = [opened.enter_context(connect(address, proxy=None)) for _ in range(5)]
        with dial(server) as one_too_many:  # answered before it asks
            assert b" 503 " in one_too_many.recv(4096)
        sockets[0].close()
        with connect(address, proxy=None) as another:
            another.send("hello")


def test_behind_a_trusted_proxy_each_person_is_counted_alone_and_strangers_are_not_believed(tmp_path):
    bounds = {"HEIMDALL_MAX_CONNECTIONS_PER_ADDRESS": "5"}
    application = "tests.site.plain:patient"
    with (
        serving(tmp_path, application, HEIMDALL_TRUSTED_PROXIES="127.0.0.1", **bounds) as server,
        ExitStack() as opened,
    ):
        address = f"ws://127.0.0.1:{server.port}/"

        def enter(person: str):
            headers = {"X-Forwarded-For": f"9.9.9.9, {person}"}
            return opened.enter_context(connect(address, additional_headers=headers, proxy=None))

        for _ in range(5):
            enter("10.0.0.1")
            enter("2001:db8::1")
        for person in ("10.0.0.1", "2001:db8::2"):  # the second has the same /64
            with pytest.raises(websockets.InvalidStatus) as refused:
                enter(person)
            assert refused.value.response.status_code == 503
        enter("10.0.0.2")


def test_a_long_message_ends_its_socket(tmp_path):
    with serving(tmp_path, "tests.site.plain:patient") as server:
        with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as client:
            client.send("a" * 5000)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                client.recv(30)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1009


def test_a_client_that_answers_no_ping_is_cut_though_it_never_reads(tmp_path):
    """Its machine may be gone without a word."""
    with (
        serving(tmp_path, "tests.site.plain:patient", HEIMDALL_TEST_PING_SECONDS="1") as server,
        dial(server, handshake(server)) as client,
    ):
        assert b" 101 " in client.recv(4096)
        assert num_open(server) == 1
        wait_until(lambda: num_open(server) == 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_takes_less_than_a_second_whatever_is_open(tmp_path, number):
    with serving(tmp_path, "tests.site.plain:patient") as server, ExitStack() as opened:
        address = f"ws://127.0.0.1:{server.port}/"
        socket_of_a_page = opened.enter_context(connect(address, proxy=None))
        for sent in (HALF, b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):  # the last one works for a minute
            opened.enter_context(dial(server, sent))
        socket_of_a_page.ping().wait(30)  # all that was sent before has arrived
        assert server.process
        began = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
        took = time.monotonic() - began
        assert took < PATIENCE_OF_A_BUSY_MACHINE, took
        with pytest.raises(websockets.ConnectionClosed) as closed:
            socket_of_a_page.recv(30)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1012  # the page opens a new one
        assert not server.said


def handshake(server: Server) -> bytes:
    return (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
