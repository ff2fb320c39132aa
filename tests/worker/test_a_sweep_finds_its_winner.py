"""A sweep with a real worker: losers rest at exact pauses, and what goes on ends like a job that never stopped."""

from __future__ import annotations

import pytest

from tests.support.running import running

pytestmark = pytest.mark.processes
CONFIG = {"epochs": 9, "samples": 64, "device": "cpu", "seed": 5}
SPACE = {"learning_rate": [0.01, 0.00001, 0.003, 0.0001, 0.03, 0.00003, 0.1, 0.0003, 0.001]}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("sweep"), HEIMDALL_SLOTS="2") as site:
        yield site


def test_halving_ends_with_a_winner_of_the_same_bits_for_less_than_half_of_the_steps(site):
    plan = {"suggester": "grid", "stopper": "asha", "eta": 3, "at_once": 2}
    body = {"name": "rates", "recipe": "tiny", "config": CONFIG, "space": SPACE, "plan": plan}
    sweep = site.post("/sweeps", body)["id"]
    site.wait_until(
        lambda: site.get(f"/sweeps/{sweep}")["state"] == "finished",
        seconds=120,
        about=lambda: str(site.get(f"/sweeps/{sweep}")),
    )
    report = site.get(f"/sweeps/{sweep}/report")
    best = report["leaders"][0]
    assert best["at_epoch"] >= 3
    rested = [job for row in report["leaders"] for job in row["jobs"] if job["status"] == "paused"]
    assert {job["epochs"] for job in rested} <= {1, 3}  # exactly at a rung
    assert report["share"] <= 0.45

    # The winner of the rungs goes on to its end, and is what an undisturbed job of its settings is.
    winner = best["jobs"][0]["id"]
    if best["jobs"][0]["status"] == "paused":
        site.verb(winner, "resume")
    alone = site.submit(**CONFIG, **best["params"])
    for job in (winner, alone):
        seen = site.wait_for(job, lambda seen: seen["status"] in ("paused", "completed"))
        while seen["status"] == "paused":
            site.verb(job, "resume")
            seen = site.wait_for_status(job, "paused", "completed")
    assert site.final(winner)["digest"] == site.final(alone)["digest"]
