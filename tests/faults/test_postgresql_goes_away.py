"""PostgreSQL stops in the middle of everything and comes back: nobody loses a step, and everybody finds back."""

from __future__ import annotations

import os
import time

import pytest

from tests import postgres
from tests.running import PATIENCE, Answer, running

pytestmark = pytest.mark.processes
AWAY_SECONDS = float(os.environ.get("AWAY_SECONDS", "5"))  # longer than the lease
LEASE = {"HEIMDALL_LEASE_SECONDS": "4", "HEIMDALL_HEARTBEAT_SECONDS": "2"}
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
    with running(tmp_path_factory.mktemp("site"), server=server, **LEASE) as site:
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
    server.stop()
    with pytest.raises(Answer) as refused:
        site.get("/jobs")
    assert (refused.value.status, refused.value.args[0].count("database_unavailable")) == (503, 1)
    site.wait_until(lambda: "The queue waits for the database" in site.log, seconds=20)
    server.start()
    site.wait_until(lambda: site.wait_for_status(site.submit(epochs=1), "completed"), seconds=60)
    assert pusher.is_running()  # it was not replaced
    claimed_after = []
    for _ in range(3):
        job = site.submit(epochs=1)
        site.wait_for_status(job, "completed", seconds=30 * PATIENCE)
        (row,) = site.rows(
            "select extract(epoch from a.started_at - j.queued_at)::float as seconds "
            "from training_attempt a join training_trainingjob j on j.id = a.job_id where j.id = ?",
            job,
        )
        claimed_after.append(row["seconds"])
    assert min(claimed_after) < 0.5, claimed_after  # the next look without a sign comes a second later
