"""A real worker whose node is drained: the job lands with a checkpoint, waits, and goes on when it is undrained."""

from __future__ import annotations

import pytest

from tests.support.running import running

pytestmark = pytest.mark.processes


def test_a_drained_node_lands_its_job_and_takes_it_up_again_when_it_is_undrained(tmp_path):
    with running(tmp_path, HEIMDALL_NODE_NAME="host-a", HEIMDALL_POOLS="big") as site:
        job = site.post(
            "/jobs",
            {
                "job_name": "a job",
                "recipe": "tiny",
                "pool": "big",
                "config": {"device": "cpu", "epochs": 4, "samples": 320, "step_seconds": 0.1},
            },
        )["id"]
        site.wait_for_step(job, 3)
        (slot,) = site.get("/nodes/host-a")["slots"]
        assert (slot["job"], slot["device"]) == (job, "cpu")

        assert site.post("/nodes/host-a/drain")["answer"] == "noted"
        landed = site.wait_for_status(job, "queued")
        assert landed["checkpoint"]["step"] == landed["current_step"] > 0
        assert landed["waiting"]["code"] == "drained"
        site.wait_until(lambda: site.get("/nodes/host-a")["state"] == "drained", seconds=10)
        second = site.submit(epochs=1, samples=32)
        heard = site.get("/nodes/host-a")["last_seen_at"]
        site.wait_until(lambda: site.get("/nodes/host-a")["last_seen_at"] > heard, seconds=10)
        assert {site.job(one)["status"] for one in (job, second)} == {"queued"}

        assert site.post("/nodes/host-a/undrain")["answer"] == "done"
        done = site.wait_for_status(job, "completed")
        site.wait_for_status(second, "completed")
        assert (done["attempt"], done["approximate"]) == (2, [])
        said = [event["message"] for event in site.events(job)]
        assert "Back in the queue. Node host-a was drained." in said
