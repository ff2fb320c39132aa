"""By REST alone: a job that was paused at epochs and steps ends like one that was not, and another seed does not."""

from __future__ import annotations

import hashlib
import json
import re
import struct

import pytest

from tests.support.running import PATIENCE, Site, running

pytestmark = pytest.mark.processes
EPOCHS, STEPS = 6, 9  # steps in an epoch
CONFIG = {
    "epochs": EPOCHS,
    "samples": 320,
    "step_seconds": 0.06,
    "ema_decay": 0.9,
    "warmup_epochs": 1,
    "keep_last": 3,
    "seed": 7,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("frontdoor"), HEIMDALL_SLOTS="2") as site:
        yield site


def digest_of(content: bytes) -> str:
    """The digest as the documentation describes it, computed from the file's bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.pop("__metadata__")
    lines = []
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        shape = json.dumps(header[name]["shape"], separators=(",", ":"))
        sha = hashlib.sha256(data[begin:end]).hexdigest()
        lines.append(f"{json.dumps(name)} {header[name]['dtype']} {shape} {sha}\n")
    lines += [
        f"{name} {hashlib.sha256(metadata[name].encode()).hexdigest()}\n" for name in ("parts", "aliases")
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def download(site: Site, job: int) -> bytes:
    return site.request("GET", f"/v1/training/jobs/{job}/checkpoints/{site.final(job)['id']}/download")


def pause(site: Site, job: int, at: str, *, after: int) -> dict:
    site.wait_for_step(job, after)
    assert "pause" in site.pause(job, at)["message"]
    return site.wait_for_status(job, "paused")


def test_a_job_paused_three_times_ends_like_an_undisturbed_one(site):
    undisturbed = site.submit(**CONFIG)
    paused = site.submit(**CONFIG)
    first = pause(site, paused, "step", after=2)
    assert site.verb(paused, "resume")["resumes_from"] == {
        "epoch": first["current_epoch"],
        "step": first["current_step"],
    }
    second = pause(site, paused, "epoch", after=STEPS + 1)
    assert second["current_step"] == STEPS * second["current_epoch"]
    site.verb(paused, "resume")
    third = pause(site, paused, "step", after=second["current_step"] + 2)
    assert third["current_step"] > second["current_step"]
    site.verb(paused, "resume")
    other_seed = site.submit(**CONFIG | {"seed": 8})

    ended = [site.wait_for_status(job, "completed") for job in (undisturbed, paused, other_seed)]

    assert [job["current_step"] for job in ended] == [EPOCHS * STEPS] * 3
    digests = [digest_of(download(site, job)) for job in (undisturbed, paused, other_seed)]
    assert digests == [site.final(job)["digest"] for job in (undisturbed, paused, other_seed)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
    rows = [
        [(row["values"], row["epoch_values"]) for row in site.metrics(job)] for job in (undisturbed, paused)
    ]
    assert rows[0] == rows[1]
    attempts = site.rows("select steps_executed as steps from training_attempt where job_id=?", paused)
    assert len(attempts) == 4
    assert sum(row["steps"] for row in attempts) == EPOCHS * STEPS  # no step was taken twice
    events = [event["kind"] for event in site.events(paused)]
    assert events.count("epoch") == EPOCHS
    assert "replay_differs" not in events


def test_pausing_is_an_answer_in_every_state(site):
    """Twice, withdrawn, queued, finished, in the last epoch: what a person would expect."""
    config = {"epochs": 2, "samples": 320, "step_seconds": 0.1}
    job = site.submit(**config)
    site.wait_for_step(job, 1)
    site.pause(job, "epoch")
    site.pause(job, "epoch")  # twice is no more than once
    seen = site.job(job)
    assert (seen["status"], seen["stop"]) == ("running", {"kind": "pause", "at": "epoch"})
    assert seen["headline"] == f"pausing at the end of epoch {seen['current_epoch'] + 1}"
    site.verb(job, "resume")  # withdrawn: the training never stopped
    site.wait_for_step(job, STEPS + 1)
    site.pause(job, "epoch")  # in the last epoch there is no next one to wait for
    ended = site.wait_for_status(job, "completed", "paused")
    assert ended["status"] == "completed"
    assert len(site.rows("select id from training_attempt where job_id=?", job)) == 1


def test_the_proof_holds_with_several_slots(site):
    """Which would run both of its jobs at once."""
    assert site.start("prove", "--set", "epochs=4").wait(timeout=200 * PATIENCE) == 0, site.log
    assert "PROVEN: the paused and resumed job ended bit-identical" in site.log
    assert len(re.findall(r"Job \d+ was paused", site.log)) == 2
    for job in re.findall(r"  job (\d+): step", site.log):  # on slots that are idle, all of both
        assert re.search(rf"  job {job}: replayed: (\d+) of \1 stretches, (\d+) of \2 steps", site.log), (
            site.log
        )
    for part in ("random generators", "learning rate schedule", "optimizer's state", "position in the data"):
        assert f"without the {part}: noticed" in site.log
