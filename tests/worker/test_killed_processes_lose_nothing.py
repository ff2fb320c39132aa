"""kill -9 of the trainer, the supervisor and the whole worker, and a supervisor that sleeps: the same bits."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from tests.support.running import PATIENCE, Site, running

pytestmark = pytest.mark.processes
EPOCHS, STEPS = 7, 9
CONFIG = {"epochs": EPOCHS, "samples": 320, "step_seconds": 0.07, "checkpoint_every_minutes": 0, "seed": 3}
LEASE = 4.0


def wait_for_attempt(site: Site, job: int, number: int, *, step: int) -> None:
    """The attempt is in the middle of an epoch."""
    site.wait_for(
        job,
        lambda seen: (
            seen["attempt"] == number and seen["status"] == "running" and seen["current_step"] >= step
        ),
    )


def kill_the_worker(site: Site) -> None:
    victims = [process for process in site.processes() if process.pid != site.web.pid]
    for process in victims:
        with suppress(psutil.Error):  # one that followed its parent meanwhile
            if process.pid == site.worker.pid or "trainer" not in " ".join(process.cmdline()):
                process.kill()
    site.wait_until(
        lambda: not site.named("heimdall trainer"), seconds=5
    )  # nobody killed them: their parents are gone
    site.worker.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("kills"), HEIMDALL_SLOTS="2") as site:
        yield site


@pytest.fixture(scope="module")
def undisturbed(site) -> int:
    return site.submit(**CONFIG)


def test_whatever_is_killed_the_job_ends_bit_identical(site, undisturbed):
    job = site.submit(**CONFIG)

    wait_for_attempt(site, job, 1, step=STEPS + 2)
    site.the("heimdall trainer", f"job {job}").kill()

    wait_for_attempt(site, job, 2, step=2 * STEPS + 2)
    trainer = site.the("heimdall trainer", f"job {job}")
    site.the("heimdall supervisor", f"job {job}").kill()
    trainer.wait(timeout=5 * PATIENCE)
    killed_at = time.monotonic()

    site.wait_for(job, lambda seen: seen["attempt"] == 3)
    assert time.monotonic() - killed_at < (LEASE + 15) * PATIENCE
    site.wait_for_status(undisturbed, "completed")
    wait_for_attempt(site, job, 3, step=3 * STEPS + 2)
    supervisor = site.the("heimdall supervisor", f"job {job}")
    supervisor.suspend()  # longer than its lease: somebody else takes the job
    site.wait_for(job, lambda seen: seen["attempt"] == 4)
    supervisor.resume()
    site.wait_until(lambda: "dropped" in site.log, seconds=20)

    wait_for_attempt(site, job, 4, step=4 * STEPS + 2)
    kill_the_worker(site)
    site.start_worker()
    ended = site.wait_for_status(job, "completed", "failed")

    assert (ended["status"], ended["current_step"]) == ("completed", EPOCHS * STEPS)
    assert site.final(job)["digest"] == site.final(undisturbed)["digest"]
    rows = [[(row["values"], row["epoch_values"]) for row in site.metrics(one)] for one in (undisturbed, job)]
    assert rows[0] == rows[1]
    events = [event["kind"] for event in site.events(job)]
    assert events.count("epoch") == EPOCHS
    assert "replay_differs" not in events
    executed = site.rows("select sum(steps_executed) as steps from training_attempt where job_id=?", job)
    assert executed[0]["steps"] < 2 * EPOCHS * STEPS  # each attempt went on from a checkpoint


def test_a_killed_zygote_ends_no_training(site, undisturbed):
    job = site.submit(**CONFIG)
    wait_for_attempt(site, job, 1, step=1)
    zygote, trainer = site.the("heimdall zygote"), site.the("heimdall trainer", f"job {job}")
    server = psutil.Process(trainer.ppid())
    assert server.ppid() == zygote.pid
    zygote.kill()
    site.wait_until(
        lambda: [one for one in site.named("heimdall zygote") if one.pid != zygote.pid], seconds=60
    )
    assert site.wait_for_status(job, "completed", "failed")["status"] == "completed"
    assert site.job(job)["attempt"] == 1
    assert site.final(job)["digest"] == site.final(undisturbed)["digest"]


def drain(site: Site, how: str) -> float:
    """Send the signals, and say how long it took until nothing was left."""
    began = time.monotonic()
    match how:
        case "main":
            site.worker.send_signal(signal.SIGTERM)
        case "group":
            os.killpg(site.worker.pid, signal.SIGTERM)
        case "group and main at once":
            os.killpg(site.worker.pid, signal.SIGINT)
            site.worker.send_signal(signal.SIGTERM)
        case "again":
            site.worker.send_signal(signal.SIGTERM)
            time.sleep(1.2)
            site.worker.send_signal(signal.SIGTERM)
    site.worker.wait(timeout=30 * PATIENCE)
    took = time.monotonic() - began
    left = [process for process in site.processes() if process.pid != site.web.pid]
    assert not [process.cmdline() for process in left if psutil.pid_exists(process.pid)]
    return took


def test_a_drain_checkpoints_every_job_and_leaves_no_process(site, undisturbed):
    job = site.submit(**CONFIG)
    step = 0
    for number, how in enumerate(("main", "group", "group and main at once"), start=1):
        if site.worker.poll() is not None:
            site.start_worker(HEIMDALL_START_METHOD="cold")
        wait_for_attempt(site, job, number, step=step + 2)
        if how == "group":
            site.pause(job)  # a pause that waits for the epoch's end lands with the drain
        took = drain(site, how)
        seen = site.job(job)
        if seen["status"] == "completed":
            break
        assert took < 10 * PATIENCE
        assert seen["status"] == ("paused" if how == "group" else "queued")
        assert seen["checkpoint"]["step"] == seen["current_step"] > step
        step = seen["current_step"]
        if how == "group":
            site.verb(job, "resume")
    site.start_worker(HEIMDALL_START_METHOD="cold")
    for each in (undisturbed, job):
        site.wait_for_status(each, "completed")
    assert site.final(job)["digest"] == site.final(undisturbed)["digest"]
    executed = site.rows("select sum(steps_executed) as steps from training_attempt where job_id=?", job)
    assert executed[0]["steps"] == EPOCHS * STEPS  # a drain costs no step

    slow = site.submit(epochs=1, samples=320, step_seconds=60)
    site.wait_for(slow, lambda seen: seen["phase"] == "training")
    drain(site, "again")
    assert site.job(slow)["checkpoint"] is None  # who asks twice does not wait for the step
    site.start_worker(HEIMDALL_START_METHOD="cold")
    site.wait_for(slow, lambda seen: seen["attempt"] == 2)
    kill_the_worker(site)
