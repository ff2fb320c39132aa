"""Leases, grace and retention go by the database's clock; a host whose own clock is wrong changes nothing."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.db.models.functions import Now
from django.utils import timezone

from training import checkpoints, scheduler, services
from training.errors import StaleAttempt
from training.models import Attempt, Checkpoint, TrainingJob, checkpoint_storage

pytestmark = pytest.mark.django_db(transaction=True)
HOUR = 3_600.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_store(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.HEARTBEAT_SECONDS = 0.1
    settings.STORAGES = settings.STORAGES | {
        "checkpoints": {
            "BACKEND": "training.storage.AtomicFileSystemStorage",
            "OPTIONS": {"location": tmp_path / "store"},
        }
    }


@pytest.fixture(params=[HOUR, -HOUR], ids=["an hour fast", "an hour slow"])
def skewed(request, monkeypatch) -> float:
    """This process's clocks are wrong. The database's is not: SQLite asks the system itself."""
    real_time, real_now = time.time, timezone.now
    monkeypatch.setattr(time, "time", lambda: real_time() + request.param)
    monkeypatch.setattr(timezone, "now", lambda: real_now() + timedelta(seconds=request.param))
    assert abs((timezone.now() - datetime.now(UTC)).total_seconds()) > HOUR - 60
    return request.param


def seconds_left(job: TrainingJob) -> float:
    """Of the lease, in the database's clock."""
    row = TrainingJob.objects.annotate(clock=Now()).get(pk=job.pk)
    return (row.lease_expires_at - row.clock).total_seconds()


def test_a_lease_is_as_long_as_it_should_be(skewed, alice, node, settings):
    services.submit(by=alice, job_name="a job", recipe="tiny", config={})
    attempt = services.claim(node, slot=0, pid=1)
    assert 0 < settings.LEASE_SECONDS - seconds_left(attempt.job) < 20
    services.beat(attempt, steps=[{"step": 1, "epoch": 1, "loss": 1.0}])
    assert 0 < settings.LEASE_SECONDS - seconds_left(attempt.job) < 20


def test_a_healthy_job_is_not_reaped_and_a_lost_one_is(skewed, make_job, node):
    healthy, lost = make_job(status="running"), make_job(status="running")
    TrainingJob.objects.filter(pk=lost.pk).update(lease_expires_at=Now() - timedelta(seconds=1))
    deadline = time.monotonic() + 30
    while not scheduler.reap_expired():
        assert time.monotonic() < deadline
    healthy.refresh_from_db(), lost.refresh_from_db()
    assert (healthy.status, lost.status) == ("running", "queued")


def test_a_host_that_is_alive_counts_as_alive(skewed, node, make_job):
    """Its slots are offered, whatever its clock says."""
    make_job()
    services.beat_node(node)
    assert scheduler._num_free_slots() == node.slots


def test_a_job_that_waits_for_a_store_waits_as_long_as_it_should(skewed, make_job, node):
    attempt = Attempt.objects.get(job=make_job(status="running"))
    services.release(attempt, reason="away", delay_seconds=60)
    assert services.claim(node, slot=0, pid=1) is None
    TrainingJob.objects.update(not_before=Now() - timedelta(seconds=1))
    assert services.claim(node, slot=0, pid=1) is not None


def test_a_file_that_an_open_attempt_has_just_stored_is_no_orphan(skewed, make_job):
    """Its host's clock may be hours behind: the file looks old, and has no row yet."""
    job = make_job(status="running")
    attempt = Attempt.objects.get(job=job)
    storage = checkpoint_storage()
    name = next(checkpoints.storage_names(job.pk, attempt.number, 4, "0" * 64, "0" * 64))
    storage.save(name, ContentFile(b"x"))
    past = datetime.now().timestamp() - 100 * HOUR
    os.utime(storage.path(name), (past, past))
    assert services.delete_orphaned_files() == []
    services.crash(attempt, exit_code=-9)  # now nobody can write its row any more
    assert services.delete_orphaned_files() == [name]


def test_what_was_set_aside_is_kept_for_its_time(skewed, make_job, settings):
    settings.DISCARDED_KEEP_SECONDS = HOUR / 2
    job = make_job(status="failed", with_checkpoint=True, step=3)
    Checkpoint.objects.update(quarantined_at=Now())
    TrainingJob.objects.update(latest_checkpoint=None, checkpoint="")
    assert services.retire_checkpoints(job) == 0
    Checkpoint.objects.update(created_at=Now() - timedelta(seconds=HOUR))
    assert services.retire_checkpoints(job) == 1


# The database's own clock jumps.


def test_when_the_databases_clock_goes_back_a_lost_job_does_not_wait_for_it(make_job, node):
    """The leases then lie far ahead. A worker that lives renews its own at the next beat."""
    lost, healthy = make_job(status="running"), make_job(status="running")
    TrainingJob.objects.update(lease_expires_at=Now() + timedelta(hours=30))
    services.beat(Attempt.objects.get(job=healthy))
    deadline = time.monotonic() + 30
    while not scheduler.reap_expired():
        assert time.monotonic() < deadline
    healthy.refresh_from_db(), lost.refresh_from_db()
    assert (healthy.status, lost.status) == ("running", "queued")


def test_when_it_goes_forward_a_reaped_worker_is_fenced_out(make_job, node):
    job = make_job(status="running")
    attempt = Attempt.objects.get(job=job)
    TrainingJob.objects.update(lease_expires_at=Now() - timedelta(hours=1))  # an hour has passed, it says
    assert services.reap(attempt)
    with pytest.raises(StaleAttempt):
        services.beat(attempt, steps=[{"step": 9, "epoch": 1, "loss": 0.0}])
    job.refresh_from_db()
    assert (job.status, job.current_step) == ("queued", 0)


def test_a_lease_of_another_hosts_longer_setting_is_no_sign_of_a_clock_that_went_back(make_job):
    job = make_job(status="running")
    TrainingJob.objects.update(lease_expires_at=Now() + timedelta(seconds=1_800))
    assert services.expired_attempts() == []
    job.refresh_from_db()
    assert job.status == "running"
