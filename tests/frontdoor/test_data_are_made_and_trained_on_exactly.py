"""Through real processes: data that were cut short and extended are the same, and a training pauses exactly."""

from __future__ import annotations

import pytest

from heimdall.recipes.localization import dataset
from heimdall.recipes.localization.settings import RadioSettings
from tests.support.running import Answer, Site, running

pytestmark = pytest.mark.processes
SHARD, NUM_SHARDS = 100, 30
TINY = {
    "epochs": 8, "batch_size": 32, "width": 8, "heads": 2, "layers": 1, "refinements": 1, "dropout": 0.1,
    "validation_split": 0.1, "keep_last": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("data"), HEIMDALL_SLOTS="1") as site:
        yield site


@pytest.fixture(scope="module")
def north(site) -> str:
    """A dataset of 800 samples for the trainings."""
    config = {"samples": 800, "samples_per_shard": 400, "seed": 3}
    job = site.post("/jobs", {"job_name": "north", "recipe": "rf_dataset", "config": config})["id"]
    return site.wait_for_status(job, "completed")["dataset"]


def shards(site: Site, job: int) -> list[str]:
    rows = site.rows(
        "select sha256 from training_shard where dataset_id=(select dataset_id from training_trainingjob where id=?)"
        " order by id",
        job,
    )
    return [row["sha256"] for row in rows]


def test_cancelled_resumed_and_extended_data_equal_those_made_at_once(site, tmp_path):
    config = {"samples": NUM_SHARDS * SHARD, "samples_per_shard": SHARD, "seed": 7}
    job = site.post("/jobs", {"job_name": "cut short", "recipe": "rf_dataset", "config": config})["id"]
    site.wait_for(job, lambda seen: seen["current_step"] >= 3)
    with pytest.raises(Answer) as refused:
        site.pause(job)
    assert refused.value.status == 409
    assert refused.value.body["error"]["message"] == "Cannot pause synthetic data generation jobs."
    site.verb(job, "cancel")
    cut = site.wait_for_status(job, "cancelled")
    assert 3 <= cut["current_step"] < NUM_SHARDS
    assert cut["metrics"]["samples"] == SHARD * cut["current_step"] == SHARD * len(shards(site, job))
    before = shards(site, job)
    site.verb(job, "resume")
    done = site.wait_for_status(job, "completed")
    assert (done["current_step"], done["total_epochs"]) == (NUM_SHARDS, 0)
    more = site.post(f"/jobs/{job}/extend", {"samples": 2 * SHARD})["id"]
    site.wait_for_status(more, "completed")
    found = shards(site, job)
    assert found[: len(before)] == before
    whole = dataset.generate(
        tmp_path, RadioSettings(), 7, samples=(NUM_SHARDS + 2) * SHARD, samples_per_shard=SHARD
    )
    assert found == [shard.sha256 for shard in whole.shards]
    shown = site.get(f"/datasets/{done['dataset']}")
    assert (shown["state"], shown["samples"]) == ("complete", (NUM_SHARDS + 2) * SHARD)
    assert shown["refused"] == whole.refused


def test_a_localization_that_was_paused_ends_like_one_that_was_not(site, north):
    config = TINY | {"dataset": north, "samples": 800, "device": "cpu"}
    body = {"job_name": "where", "recipe": "localization", "config": config}
    paused, undisturbed = (site.post("/jobs", body)["id"] for _ in range(2))
    site.wait_for_step(paused, 3)
    site.pause(paused, "step")
    landed = site.wait_for_status(paused, "paused", "completed")
    assert landed["status"] == "paused"
    site.verb(paused, "resume")
    ended = [site.wait_for_status(job, "completed") for job in (undisturbed, paused)]
    assert site.final(paused)["digest"] == site.final(undisturbed)["digest"]
    assert ended[0]["metrics"] == ended[1]["metrics"]
    shown = [site.get(f"/jobs/{job}/artifact") for job in (undisturbed, paused)]
    assert shown[0] == shown[1]
    assert (shown[0]["epoch"], shown[0]["content"]["kind"]) == (8, "localization")
    assert "replay_differs" not in [event["kind"] for event in site.events(paused)]


def test_resuming_on_other_data_is_refused_with_a_sentence(site, north):
    """Somebody changes the dataset's row, and the trainer's copy of the data, while a training is paused."""
    config = TINY | {"dataset": north, "samples": 800, "device": "cpu", "epochs": 400}
    job = site.post("/jobs", {"job_name": "where", "recipe": "localization", "config": config})["id"]
    site.wait_for_step(job, 2)
    site.pause(job, "step")
    site.wait_for_status(job, "paused")
    changed = "json_set(environment, '$.data_fingerprint', ?)"
    if site.is_on_postgres:
        changed = "jsonb_set(environment, '{data_fingerprint}', to_jsonb(?::text))"
    with site.database() as database:
        database.execute(f"update training_trainingjob set environment={changed} where id=?", ("0" * 64, job))
    site.verb(job, "resume")
    failed = site.wait_for_status(job, "failed")
    assert failed["error_code"] == "data_changed"
    assert "data" in failed["error_message"]
