"""`from heimdall import Client` submits, pauses, follows, reads and downloads; the async twin does the same."""

import json

import pytest

from heimdall import AsyncClient, codec
from heimdall.certificate.verdict import verify_certificate
from heimdall.errors import InvalidConfig, InvalidInput, NotFound, TransitionRefused
from tests.support.radio_reports import ITALY, lines, table

pytestmark = pytest.mark.processes


def test_a_job_is_submitted_paused_followed_and_downloaded(client, tmp_path):
    job = client.submit("tiny", name="first", tags=["nightly"], device="cpu", epochs=3, step_seconds=0.02)
    assert (job.name, job.fields.recipe, job.fields.config["epochs"]) == ("first", "tiny", 3)
    job.wait(until=["running"], timeout=60)
    job.pause(at="step").wait(timeout=60)
    assert (job.status, job.verbs) == ("paused", ["resume", "discard"])
    paused_at = job.fields.current_step

    job.resume()
    seen = list(job.follow(from_start=True))
    assert job.status == "completed"
    steps = [update.data["step"] for update in seen if update.kind == "step"]
    assert steps == list(range(1, job.fields.current_step + 1))
    events = [update.data["seq"] for update in seen if update.kind == "event"]
    assert events == list(range(1, job.fields.event_seq + 1))
    assert seen[-1].kind == "job" or job.fields.is_at_rest

    assert [row["step"] for row in job.metrics()] == steps
    assert job.metrics(after=paused_at)[0]["step"] == paused_at + 1
    assert len(job.metrics(per="epoch").column("val_loss")) == 3
    assert job.curve("loss")["series"][0]["steps"]
    path = job.checkpoints["final"].download(tmp_path)
    assert codec.verify(path).digest == job.checkpoints["final"].fields.digest
    document = job.certificate()
    assert verify_certificate(document, files=[path]).is_good
    assert {one["state"] for one in job.verify()} == {"waiting"}
    assert {one["job"] for one in job.replays()} == {job.id}
    assert job.fields.evidence == "not shown"
    assert [one.id for one in client.jobs(tags=["nightly"], status=["completed", "failed"])] == [job.id]
    where = ["config.epochs=3", f"metric.val_loss<={job.fields.val_loss}"]
    assert [one.id for one in client.jobs(tags=["nightly"], where=where, ordering="-metric.val_loss")] == [
        job.id
    ]
    [row] = client.table(["id", "lowest.val_loss"], tags=["nightly"], where=where[0])
    assert row == {"id": job.id, "lowest.val_loss": job.fields.best_val_loss}
    exported = client.export(tmp_path / "jobs.jsonl", tags=["nightly"]).read_text()
    assert json.loads(exported) == job.refresh().fields.raw
    tried = client.try_submission("tiny", device="cpu", team=None, priority=3)
    assert sum(tried["free_slots"].values()) > 0


def test_refusals_are_classes_with_what_the_server_said(client):
    with pytest.raises(InvalidConfig) as bad:
        client.submit("tiny", epochs=-1)
    assert "epochs" in bad.value.fields
    with pytest.raises(NotFound, match="no job 987654"):
        client.job(987_654)
    job = client.submit("tiny", device="cpu", epochs=1, pool="nowhere").pause()
    with pytest.raises(TransitionRefused) as refused:
        job.cancel()
    assert (refused.value.status, refused.value.verbs) == ("paused", ("resume", "discard"))
    with pytest.raises(NotFound, match="none yet"):
        job.checkpoints["best"]
    job.discard().delete()
    with pytest.raises(NotFound):
        job.refresh()


async def test_the_twin_for_event_loops_does_the_same(site, tmp_path):
    async with AsyncClient(site.url, token=site.token) as client:
        job = await client.submit("tiny", device="cpu", epochs=1)
        kinds = {update.kind async for update in job.follow(from_start=True)}
        assert {"event", "step", "epoch", "job"} <= kinds
        await job.wait(timeout=60)
        assert job.status == "completed"
        best = await job.checkpoints["best"]
        assert (await best.download(tmp_path / "best.safetensors")).stat().st_size == best.fields.size
        assert job.id in [one.id async for one in client.jobs(most=10)]


def test_a_completed_localization_is_asked_where_transmitters_are(client, tmp_path):
    config = {
        "samples": 300,
        "epochs": 1,
        "batch_size": 64,
        "width": 8,
        "heads": 2,
        "layers": 1,
        "refinements": 1,
    }
    job = client.submit("localization", device="cpu", **config).wait(timeout=120)
    raw = table(lines("one", (44.9, 8.3, 205.0), ITALY.values()))
    file = tmp_path / "evening.csv"
    file.write_bytes(raw)
    found = job.locate(file)
    assert [one["transmission"] for one in found["results"]] == ["one"]
    assert job.locate(raw.decode())["results"] == found["results"]
    with pytest.raises(InvalidInput, match="report 1, latitude"):
        job.locate([{"receiver": "Roma", "arrival_ns": 5}])
