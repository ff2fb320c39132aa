"""A disk of one megabyte that is full: the training goes on, nothing half stays, and a pause waits for room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heimdall.trainer.protocol import (
    CheckpointFailed,
    FromTrainer,
    StagedCheckpoint,
    StepsDone,
    Stopped,
    decode,
)
from training import services
from training.models import Attempt

ROOT = Path(__file__).parents[2]
# A mount namespace of its own: needs no root where users may have namespaces, and is gone with the process.
SMALL_DISK = "mount -t tmpfs -o size=1m tmpfs {folder} && exec {python} -m tests.faults.full_disk {folder}"


def on_a_small_disk(folder: Path) -> subprocess.CompletedProcess[str]:
    script = SMALL_DISK.format(folder=folder, python=sys.executable)
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*unshare, "sh", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def may_mount(folder: Path) -> bool:
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    try:
        asked = [*unshare, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
        return subprocess.run(asked, capture_output=True, timeout=20).returncode == 0
    except OSError:
        return False


@pytest.mark.processes
def test_a_periodic_checkpoint_fails_and_a_pause_is_tried_until_there_is_room(tmp_path):
    if not may_mount(tmp_path):
        pytest.skip("no small disk can be mounted here; tests/engine tries the same with failpoints")
    done = on_a_small_disk(tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    messages = [decode(line.encode(), FromTrainer) for line in told["messages"]]
    failed = [message for message in messages if isinstance(message, CheckpointFailed)]
    assert all("No space left on device" in message.error for message in failed)
    assert "periodic" in failed[0].kinds
    assert [message.kinds for message in failed[1:3]] == [failed[1].kinds] * 2
    assert "pause" in failed[1].kinds
    assert isinstance(messages[-1], Stopped)
    steps = [row["step"] for message in messages if isinstance(message, StepsDone) for row in message.rows]
    assert steps == list(range(1, len(steps) + 1))
    staged = [message for message in messages if isinstance(message, StagedCheckpoint)]
    assert len(staged) == 1
    assert told["files"] == [Path(staged[0].path).name]  # no balloon, and no temporary file


# What people see of it.


@pytest.fixture
def pausing(make_job, alice):
    job = make_job(status="running", stop="pause", stop_at="step", step=5)
    services.note(
        Attempt.objects.get(job=job),
        "checkpoint_failed",
        "A checkpoint (pause) could not be written: [Errno 28] No space left on device",
    )
    return job


def test_the_page_says_that_the_job_is_still_pausing_and_why(client, alice, pausing):
    client.force_login(alice)
    page = client.get(f"/jobs/{pausing.pk}/").content.decode()
    trouble = page.partition('id="trouble"')[2].partition('<div class="grid')[0]
    assert ">at the next step</span>" in page
    assert "No space left on device" in trouble
    assert "be tried again" in trouble
    assert 'data-verb="resume"' in page  # it can be withdrawn


def test_the_reason_goes_when_a_checkpoint_was_stored(client, alice, pausing):
    from tests.support.stored import stored_checkpoint

    stored = stored_checkpoint(step=5, epoch=1)
    services.record_checkpoint(Attempt.objects.get(job=pausing), stored)
    client.force_login(alice)
    page = client.get(f"/jobs/{pausing.pk}/").content.decode()
    assert "be tried again" not in page
    assert "No space left on device" in page  # the history keeps it


def test_a_pause_that_cannot_be_stored_can_be_withdrawn(client, alice, pausing):
    client.force_login(alice)
    answer = client.post(f"/jobs/{pausing.pk}/resume/", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["answer"]) == (200, "done")
    pausing.refresh_from_db()
    assert (pausing.status, pausing.stop) == ("running", "")


def test_a_trainer_that_stalled_is_told_in_words(client, alice, make_job):
    job = make_job(status="running", step=5)
    said = "No progress for 1800 s: the trainer was killed.\nlast line of its log"
    services.crash(Attempt.objects.get(job=job), exit_code=-9, detail=said)
    client.force_login(alice)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "The trainer died (signal 9, SIGKILL)." in page
    assert "No progress for 1800 s: the trainer was killed." in page
    assert "last line of its log" in page
