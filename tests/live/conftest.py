"""One server and one writer for all tests of this folder."""

from __future__ import annotations

import itertools

import pytest

from tests.live.server import Server, Writer

_names = itertools.count(1)


@pytest.fixture(scope="session")
def live(tmp_path_factory):
    """The server, the writer and its database, shared: each test makes its own people and jobs."""
    server = Server(tmp_path_factory.mktemp("live"))
    writer = Writer(server.environment)
    try:
        writer.migrate()
        server.start()
        yield server, writer
    finally:
        server.kill()
        writer.close()


@pytest.fixture
def server(live):
    return live[0]


@pytest.fixture
def writer(live):
    return live[1]


@pytest.fixture
def person(writer):
    """Somebody new with a session and a token."""
    return lambda **wanted: writer.person(name=f"person-{next(_names)}", **wanted)


@pytest.fixture
def running(writer, person):
    """A person with a running job."""
    who = person()
    job = writer.submit(by=who["name"])
    writer.claim(job=job)
    return who, job
