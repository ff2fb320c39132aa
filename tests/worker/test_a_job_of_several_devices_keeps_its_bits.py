"""A worker with four slots trains on three of them: killed, paused, drained and resumed, it ends bit-identical."""

from __future__ import annotations

import random
import signal

import pytest

from tests.support.running import PATIENCE, Site, running, told

pytestmark = pytest.mark.processes
EPOCHS, STEPS = 4, 9
CONFIG = {
    "epochs": EPOCHS, "samples": 320, "step_seconds": 0.05, "checkpoint_every_minutes": 0, "seed": 5, "devices": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("gangs"), HEIMDALL_SLOTS="4") as site:
        yield site


def wait_for_attempt(site: Site, job: int, number: int, *, step: int) -> dict:
    return site.wait_for(
        job,
        lambda seen: (
            (seen["attempt"], seen["status"]) == (number, "running") and seen["current_step"] >= step
        ),
    )


def free_slots(site: Site) -> int:
    return site.get("/nodes")["results"][0]["free_slots"]


def ranks_of(site: Site, job: int) -> list:
    return sorted(site.named("heimdall trainer", f"job {job}"), key=lambda process: process.pid)


def test_whatever_happens_to_a_rank_all_of_them_go_on_from_the_checkpoint(site):
    undisturbed = site.submit(**CONFIG)
    job, large = site.submit(**CONFIG), site.submit(**CONFIG | {"devices": 5})
    waiting = site.wait_for(job, lambda seen: seen["waiting"] and seen["waiting"]["code"] == "needs_slots")
    assert "It needs 3 free slots of one host; 1 is free." in waiting["waiting"]["message"]
    assert site.job(large)["waiting"]["code"] == "too_few_slots"
    site.verb(large, "cancel")
    site.wait_for_status(undisturbed, "completed")

    seen = wait_for_attempt(site, job, 1, step=STEPS + 2)
    assert (seen["ranks"], [row["rank"] for row in seen["rank_devices"]]) == (3, [0, 1, 2])
    processes = ranks_of(site, job)
    assert {row["pid"] for row in seen["rank_devices"]} == {process.pid for process in processes}
    assert free_slots(site) == 1
    random.Random(5).choice(processes).kill()
    for process in processes:
        process.wait(timeout=5 * PATIENCE)  # none is left waiting for the others

    seen = wait_for_attempt(site, job, 2, step=STEPS + 4)
    site.pause(job, at="step")
    site.wait_for_status(job, "paused")
    site.wait_until(lambda: free_slots(site) == 4 and not ranks_of(site, job), seconds=10)
    site.verb(job, "resume")

    wait_for_attempt(site, job, 3, step=2 * STEPS + 2)
    site.the("heimdall supervisor", f"job {job}").kill()
    wait_for_attempt(site, job, 4, step=2 * STEPS + 4)
    site.worker.send_signal(signal.SIGTERM)
    site.worker.wait(timeout=60 * PATIENCE)
    assert not ranks_of(site, job)
    site.start_worker()
    ended = site.wait_for_status(job, "completed", "failed")

    assert (ended["status"], ended["current_step"], ended["ranks"]) == ("completed", EPOCHS * STEPS, 3)
    assert site.final(job)["digest"] == site.final(undisturbed)["digest"]
    rows = [
        [(told(row["values"]), row["epoch_values"]) for row in site.metrics(one)]
        for one in (undisturbed, job)
    ]
    assert rows[0] == rows[1]
    assert "replay_differs" not in [event["kind"] for event in site.events(job)]
    assert site.rows("select * from training_heldslot") == []
