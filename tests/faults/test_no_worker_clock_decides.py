"""Leases, grace and retention go by the database's clock; a host whose own clock is wrong changes nothing."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.running import PATIENCE
from training import host, placement, services
from training.errors import StaleAttempt
from training.models import Attempt, Checkpoint, TrainingJob, checkpoint_storage
from training.store import checkpoints
from training.worker import reaping
from training.worker.heartbeat import HeartbeatThread

pytestmark = pytest.mark.django_db(transaction=True)
HOUR = 3_600.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_store(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.HEARTBEAT_SECONDS = 0.1
    settings.STORAGES = settings.STORAGES | {
        "checkpoints": {
            "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
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
    services.beat(attempt, services.Report(steps=[{"step": 1, "epoch": 1, "loss": 1.0}]))
    assert 0 < settings.LEASE_SECONDS - seconds_left(attempt.job) < 20


def test_a_healthy_job_is_not_reaped_and_a_lost_one_is(skewed, make_job, node):
    healthy, lost = make_job(status="running"), make_job(status="running")
    TrainingJob.objects.filter(pk=lost.pk).update(lease_expires_at=Now() - timedelta(seconds=1))
    deadline = time.monotonic() + 30 * PATIENCE
    while not reaping.reap_expired():
        assert time.monotonic() < deadline
    healthy.refresh_from_db(), lost.refresh_from_db()
    assert (healthy.status, lost.status) == ("running", "queued")


def test_a_host_that_is_alive_counts_as_alive(skewed, node):
    """Its slots are offered, whatever its clock says."""
    services.beat_node(node)
    assert list(placement.live_nodes()) == [node]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process started since the boot")
def test_a_supervisor_is_known_again_after_its_host_s_clock_was_set(monkeypatch):
    """What the kernel gives as the time of a process in Unix time moves with the clock."""
    since = host.started_at(os.getpid())
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + HOUR)
    assert host.is_alive(os.getpid(), since)
    assert not host.is_alive(os.getpid(), since - 10)  # another process had the number before
    assert host.started_at(2**22 + 1) == 0.0


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
    deadline = time.monotonic() + 30 * PATIENCE
    while not reaping.reap_expired():
        assert time.monotonic() < deadline
    healthy.refresh_from_db(), lost.refresh_from_db()
    assert (healthy.status, lost.status) == ("running", "queued")


def test_when_it_goes_forward_a_reaped_worker_is_fenced_out(make_job, node):
    job = make_job(status="running")
    attempt = Attempt.objects.get(job=job)
    TrainingJob.objects.update(lease_expires_at=Now() - timedelta(hours=1))  # an hour has passed, it says
    assert services.reap(attempt)
    with pytest.raises(StaleAttempt):
        services.beat(attempt, services.Report(steps=[{"step": 9, "epoch": 1, "loss": 0.0}]))
    job.refresh_from_db()
    assert (job.status, job.current_step) == ("queued", 0)


def test_a_lease_of_another_hosts_longer_setting_is_no_sign_of_a_clock_that_went_back(make_job):
    job = make_job(status="running")
    TrainingJob.objects.update(lease_expires_at=Now() + timedelta(seconds=1_800))
    assert services.expired_attempts() == []
    job.refresh_from_db()
    assert job.status == "running"


def test_a_jump_is_told_in_the_log_and_a_slow_look_is_none(monkeypatch, node, caplog):
    heartbeat, now, clock = HeartbeatThread(node), [0.0], datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for passed, jumped, took in (
        (0, 0, 0),
        (5, 0, 0),
        (600, 0, 0),
        (5, HOUR, 0),
        (5, 0, 0),
        (5, -2 * HOUR, 0),
        (600, -500, 550),  # the answer is old: it was on its way while the database was frozen
        (5, 500, 0),
    ):
        now[0] += passed
        clock += timedelta(seconds=passed + jumped)
        heartbeat._watch_clock(clock, now[0] - took, now[0])
    forward, back = [record.getMessage() for record in caplog.records]
    assert "forward by 3600 s" in forward
    assert "back by 7200 s" in back


def test_a_job_that_was_reaped_for_a_clock_that_went_back_says_so(make_job):
    job = make_job(status="running")
    TrainingJob.objects.update(lease_expires_at=Now() + timedelta(hours=30))
    assert services.reap(Attempt.objects.get(job=job))
    assert "the clock of the database went back" in job.events.get(kind="reap").message


class Clock(RuleBasedStateMachine):
    """A worker that lives or dies while the database's clock jumps, and a reaper that looks now and then.

    The clock's jump is seen in what it is compared with: the lease.
    """

    @initialize()
    def begin(self):
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        user = User.objects.create_user("clock")
        self.node = services.register_node()
        self.job = services.submit(by=user, job_name="clock", recipe="tiny", config={}).job
        self.now, self.lives = 0.0, False

    def teardown(self):
        if hasattr(self, "rollback"):
            transaction.set_rollback(True)
            self.rollback.__exit__(None, None, None)

    def row(self) -> TrainingJob:
        return TrainingJob.objects.get(pk=self.job.pk)

    def look(self) -> None:
        self.now += 2 * django_settings.HEARTBEAT_SECONDS
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: self.now)
            reaping.reap_expired()

    def beat(self) -> bool:
        """False for a worker that was fenced out: it then leaves the job alone."""
        before = TrainingJob.objects.values().get(pk=self.job.pk)
        try:
            services.beat(self.attempt, services.Report(log="alive"))
        except StaleAttempt:
            assert TrainingJob.objects.values().get(pk=self.job.pk) == before
            self.lives = False
        return self.lives

    @precondition(lambda self: not self.lives)
    @rule()
    def claim(self):
        attempt = services.claim(self.node, slot=0, pid=1)
        if attempt:
            self.attempt, self.lives = attempt, True

    @rule(seconds=st.sampled_from([-30 * HOUR, -HOUR, -100.0, -10.0, 10.0, 100.0, HOUR, 30 * HOUR]))
    def jump(self, seconds):
        TrainingJob.objects.exclude(lease_expires_at=None).update(
            lease_expires_at=F("lease_expires_at") - timedelta(seconds=seconds)
        )

    @precondition(lambda self: self.lives)
    @rule()
    def die(self):
        self.lives = False

    @rule(times=st.integers(1, 3))
    def reap(self, times):
        for _ in range(times):
            self.look()

    @precondition(lambda self: self.lives)
    @rule()
    def a_worker_that_beats_between_the_looks_keeps_its_job(self):
        if self.beat():
            for _ in range(3):
                self.look()
                assert self.beat()
            assert (self.row().status, self.row().attempt) == ("running", self.attempt.number)

    @precondition(lambda self: not self.lives)
    @rule()
    def a_lost_job_is_found_within_an_hour_and_a_lease(self):
        self.reap(2)  # somebody looks all the time: a clock that went back further is noticed at once
        self.jump(django_settings.LEASE_SECONDS + HOUR + 1)
        self.reap(2)
        assert self.row().status == "queued"

    @invariant()
    def one_attempt_at_a_time(self):
        if hasattr(self, "job"):
            num_open = Attempt.objects.filter(job=self.job, ended_at=None).count()
            assert num_open == (self.row().status == "running")


def test_however_the_clock_jumps_no_job_is_lost_and_none_is_run_twice(node):
    run_state_machine_as_test(
        Clock,
        settings=hypothesis_settings(
            max_examples=int(os.environ.get("HEIMDALL_TEST_EXAMPLES", "10")),
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
