"""PostgreSQL stops or freezes in the middle of everything: nobody loses a step, and everybody finds back.

AWAY_SECONDS=30: for that long. Frozen, its connections neither fail nor answer.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from websockets.sync.client import connect

from tests.notifications.receiver import receiving
from tests.support import postgres
from tests.support.running import PATIENCE, Answer, Site, running
from training.queue import commits

pytestmark = pytest.mark.processes
AWAY_SECONDS = float(os.environ.get("AWAY_SECONDS", "5"))  # longer than the lease
SETTINGS = {
    "HEIMDALL_LEASE_SECONDS": "4",
    "HEIMDALL_HEARTBEAT_SECONDS": "2",
    "HEIMDALL_STATEMENT_SECONDS": "2",  # whoever waits for an answer gives up 2 s later
    "HEIMDALL_WEBHOOK_ALLOW": "127.0.0.1",
}
REFUSED_WITHIN = 6.0  # seconds: what looking at a connection, or waiting for one, may take
STEP_SECONDS, SAMPLES_A_STEP = 0.05, 36  # a tenth of the samples validates
SAMPLES = int((AWAY_SECONDS + 4) / STEP_SECONDS / 2) * SAMPLES_A_STEP


@pytest.fixture(scope="module")
def server():
    if postgres.why_absent():
        pytest.skip(postgres.why_absent())
    with postgres.fresh() as server:
        yield server


@pytest.fixture(scope="module")
def site(server, tmp_path_factory):
    with running(tmp_path_factory.mktemp("site"), server=server, **SETTINGS) as site:
        yield site


def test_a_training_goes_on_while_postgresql_is_away_and_no_step_is_lost(site, server):
    job = site.submit(epochs=2, samples=SAMPLES, step_seconds=STEP_SECONDS)
    site.wait_for_step(job, 5)
    trainer = site.the("heimdall trainer", f"job {job}")
    server.stop()
    stopped_at = time.monotonic()
    before = trainer.num_ctx_switches().voluntary
    while time.monotonic() - stopped_at < AWAY_SECONDS:
        time.sleep(0.1)
    assert trainer.is_running()
    assert trainer.num_ctx_switches().voluntary > before + 20  # it makes steps
    server.start()
    ended = site.wait_for_status(job, "completed", "failed", seconds=60 + AWAY_SECONDS)
    steps = ended["total_steps"]
    assert steps * STEP_SECONDS > AWAY_SECONDS
    assert (ended["status"], ended["attempt"], ended["current_step"]) == ("completed", 1, steps)
    assert [row["step"] for row in site.metrics(job)] == list(range(1, steps + 1))
    events = site.events(job)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["epoch"] for event in events if event["kind"] == "epoch"] == [1, 2]


def test_an_idle_worker_finds_back_and_takes_the_next_job_at_a_sign(site, server):
    pusher = site.the("pusher")
    num_listening = site.wait_until(lambda: server.num_listening(commits.MESSAGES), seconds=20)
    server.stop()
    with pytest.raises(Answer) as refused:
        site.get("/jobs")
    assert (refused.value.status, refused.value.args[0].count("database_unavailable")) == (503, 1)
    site.wait_until(lambda: "The queue waits for the database" in site.log, seconds=20)
    server.start()
    site.wait_until(lambda: site.wait_for_status(site.submit(epochs=1), "completed"), seconds=60)
    assert pusher.is_running()  # it was not replaced
    # It listens again: a sign is heard. Without, a look would come a second later.
    site.wait_until(lambda: server.num_listening(commits.MESSAGES) == num_listening, seconds=20)
    slots = 1
    assert server.num_connections("heimdall worker") <= 6 + 2 * slots  # as docs/operations.md says


def answer(site: Site, path: str) -> tuple[int, float]:
    """The status, and how long it took."""
    asked = time.monotonic()
    request = urllib.request.Request(f"{site.url}{path}", headers={"Authorization": f"Token {site.token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            status = response.status
    except urllib.error.HTTPError as error:
        status = error.code
    return status, time.monotonic() - asked


@contextmanager
def watched(site: Site, job: int) -> Iterator[list[int]]:
    """The numbers of the events that a socket of this job brings."""
    seen: list[int] = []
    headers = {"Authorization": f"Token {site.token}"}
    address = f"ws://127.0.0.1:{site.port}/ws/training/{job}/"
    with connect(address, additional_headers=headers, origin=site.url, proxy=None) as socket:

        def read() -> None:
            with suppress(Exception):  # the socket's end
                for message in socket:
                    seen.extend(event["seq"] for event in json.loads(message).get("events", []))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield seen
    reader.join(10)


def test_a_training_goes_on_while_postgresql_is_frozen_and_nothing_is_lost_or_done_twice(site, server):
    with receiving() as receiver:
        hook = {"via": "webhook", "target": receiver.url, "topics": ["completed"]}
        site.post("/subscriptions", hook)
        job = site.submit(epochs=2, samples=SAMPLES, step_seconds=STEP_SECONDS)
        with watched(site, job) as seen:
            site.wait_for_step(job, 5)
            trainer = site.the("heimdall trainer", f"job {job}")
            pusher, before = site.the("pusher"), trainer.num_ctx_switches().voluntary
            with server.frozen():
                thaws_at = time.monotonic() + AWAY_SECONDS
                asked = [answer(site, path) for path in ("/healthz", "/readyz")]
                time.sleep(max(thaws_at - time.monotonic(), 0))
            assert trainer.is_running()
            assert trainer.num_ctx_switches().voluntary > before + 20  # it makes steps
            ended = site.wait_for_status(job, "completed", "failed", seconds=60)
            site.wait_until(lambda: seen and seen[-1] == ended["event_seq"], seconds=20)
        assert receiver.arrived.acquire(timeout=70 * PATIENCE)
    (alive, _), (ready, ready_took) = asked
    assert (alive, ready) == (200, 503)
    assert ready_took < REFUSED_WITHIN * PATIENCE
    steps = ended["total_steps"]
    assert (ended["status"], ended["attempt"], ended["current_step"]) == ("completed", 1, steps)
    assert [row["step"] for row in site.metrics(job)] == list(range(1, steps + 1))
    (attempt,) = site.rows("select steps_executed from training_attempt where job_id = ?", job)
    assert attempt["steps_executed"] == steps
    events = site.events(job)
    assert seen == [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["epoch"] for event in events if event["kind"] == "epoch"] == [1, 2]
    assert pusher.is_running()  # the cluster was not replaced


def test_requests_that_come_while_it_is_frozen_are_refused_in_time(site, server):
    paths = ["/v1/training/jobs", "/readyz", "/metrics", "/healthz"]
    assert [answer(site, path)[0] for path in paths] == [200] * 4
    with server.frozen(), ThreadPoolExecutor(len(paths)) as together:
        asked = list(together.map(lambda path: answer(site, path), paths))
    assert [status for status, _ in asked] == [503, 503, 503, 200]
    assert max(took for _, took in asked) < REFUSED_WITHIN * PATIENCE, asked
    site.wait_until(lambda: answer(site, "/readyz")[0] == 200, seconds=20)
    site.wait_for_status(site.submit(epochs=1), "completed")
