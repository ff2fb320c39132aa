"""The whole way through real processes, on one worker and one web server."""

from __future__ import annotations

import pytest

from tests.running import Site, running

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("processes")]
SLOW = {"epochs": 4, "step_seconds": 0.05, "samples": 320, "checkpoint_every_minutes": 0}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("site")) as site:
        yield site


def kinds(site: Site, job: int) -> list[str]:
    return [event["kind"] for event in site.events(job)]


def test_a_submitted_job_is_trained_to_its_end(site):
    job = site.submit(epochs=2)
    done = site.wait_for_status(job, "completed", "failed")
    assert (done["status"], done["current_epoch"], done["progress_percent"]) == ("completed", 2, 100.0)
    assert kinds(site, job).count("epoch") == 2
    assert len(site.metrics(job)) == done["current_step"] == done["total_steps"]
    assert site.final(job)["step"] == done["current_step"]


def test_a_pause_at_the_next_step_and_one_at_the_epochs_end_change_no_bit(site):
    undisturbed, paused = site.submit(**SLOW), site.submit(**SLOW)
    site.wait_for_status(undisturbed, "completed")
    site.wait_for_step(paused, 3)
    site.pause(paused, "step")
    first = site.wait_for_status(paused, "paused")
    assert first["current_step"] % 10 or first["phase"] == ""
    site.verb(paused, "resume")
    site.wait_for(paused, lambda job: job["status"] == "running" and job["current_step"] > first["current_step"])
    site.pause(paused)
    second = site.wait_for_status(paused, "paused", "completed")
    if second["status"] == "paused":
        assert second["current_step"] == second["current_epoch"] * (second["total_steps"] // 4)
        site.verb(paused, "resume")
    site.wait_for_status(paused, "completed")
    assert site.final(paused)["digest"] == site.final(undisturbed)["digest"]
    assert [row["values"] for row in site.metrics(paused)] == [row["values"] for row in site.metrics(undisturbed)]
    executed = site.rows("select sum(steps_executed) as steps from training_attempt where job_id=?", paused)
    assert executed[0]["steps"] == second["total_steps"]  # no step was taken twice
