"""The reaper looks twice, messages are taken once, and waiting jobs are woken."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django_q.models import OrmQ

from training import host, queue, services
from training.lifecycle import Status
from training.models import Attempt, Installation, Node, TrainingJob
from training.services import nodes
from training.worker import cleanup, housekeeping, reaping, tasks

pytestmark = pytest.mark.django_db(transaction=True)
HEARTBEAT = 0.1


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.HEARTBEAT_SECONDS = HEARTBEAT
    services.register_node()


@pytest.fixture
def lost_job(make_job) -> TrainingJob:
    job = make_job(status="running")
    expire(job)
    return job


def expire(job: TrainingJob) -> None:
    TrainingJob.objects.filter(pk=job.pk).update(lease_expires_at=Now() - timedelta(seconds=1))


def status(job: TrainingJob) -> str:
    job.refresh_from_db()
    return job.status


def test_one_look_reaps_nothing_and_a_second_one_a_heartbeat_later_does(lost_job):
    began = time.monotonic()
    assert reaping.reap_expired() == []
    assert status(lost_job) == "running"
    while not reaping.reap_expired():
        assert status(lost_job) == "running"
    assert time.monotonic() - began >= HEARTBEAT
    assert status(lost_job) == "queued"


def test_a_lease_that_was_renewed_between_two_looks_is_seen_anew(lost_job):
    attempt = Attempt.objects.get(job=lost_job)
    reaping.reap_expired()
    services.beat(attempt)  # late, but nobody had reaped it
    expire(lost_job)
    assert reaping.reap_expired() == []  # another lease, and its first look
    seen_at = time.monotonic()
    while time.monotonic() - seen_at <= HEARTBEAT:
        pass
    assert len(reaping.reap_expired()) == 1


def test_a_dead_supervisor_of_this_host_is_noticed_at_once(make_job):
    job = make_job(status="queued")
    node = Node.objects.get()
    services.claim(node, slot=0, pid=2**22 + 1, pid_started_at=1.0, job_id=job.pk)
    (reaped,) = reaping.reap_dead_supervisors(node)
    assert reaped.job_id == job.pk
    assert status(job) == "queued"


def test_after_a_reboot_jobs_of_the_earlier_boot_go_on_at_once(make_job, monkeypatch):
    """The lease has long to run, and the pid is in use again: by this very process."""
    job, pid = make_job(status="queued"), os.getpid()
    node = Node.objects.get()
    services.claim(node, slot=0, pid=pid, pid_started_at=host.started_at(pid), job_id=job.pk)
    tasks.housekeep(1)
    assert status(job) == "running"
    monkeypatch.setattr(nodes, "boot_id", lambda: "another boot")
    services.register_node()
    tasks.housekeep(2)
    assert status(job) == "queued"


def test_no_scratch_folder_is_left_of_jobs_that_are_over_or_gone(make_job, settings):
    jobs = {status: make_job(status=status) for status in Status if status != "running"}
    gone, running, kept, taken = 10**9, make_job(status="running"), make_job(status="paused"), make_job()
    settings.SCRATCH_DIR = settings.DATA_DIR / "scratch"
    for job in [*(job.pk for job in jobs.values()), gone, running.pk, kept.pk, taken.pk]:
        (settings.SCRATCH_DIR / str(job)).mkdir(parents=True)
    for job in (jobs["completed"].pk, gone, kept.pk):
        (settings.SCRATCH_DIR / str(job) / "data.npy").touch()
    (settings.SCRATCH_DIR / "mine").mkdir()  # whoever made it
    tasks.housekeep(1)
    left = sorted(folder.name for folder in settings.SCRATCH_DIR.iterdir())
    assert left == sorted([str(running.pk), str(kept.pk), "mine"])


def test_a_scratch_folder_stays_where_an_attempt_began_meanwhile(make_job, settings, monkeypatch):
    job = make_job()
    folder = settings.SCRATCH_DIR = settings.DATA_DIR / "scratch"
    (folder / str(job.pk)).mkdir(parents=True)
    monkeypatch.setattr(cleanup, "_put_aside", lambda *one, put=cleanup._put_aside: claim(job) and put(*one))
    cleanup.sweep_scratch()
    assert (folder / str(job.pk)).is_dir()


def claim(job: TrainingJob) -> Attempt:
    return services.claim(Node.objects.get(), slot=0, pid=1, job_id=job.pk)


def test_waiting_jobs_are_woken_for_the_slots_that_are_free(make_job):
    make_job(), make_job()
    OrmQ.objects.all().delete()
    assert housekeeping.wake_waiting(Node.objects.get()) == 1  # one slot
    assert housekeeping.wake_waiting(Node.objects.get()) == 0  # the message waits already
    OrmQ.objects.all().delete()
    with host.hold_free_slot() as slot:
        assert slot == 0
        assert housekeeping.wake_waiting(Node.objects.get()) == 0


def test_a_message_is_taken_once_and_a_hosts_own_by_the_host_alone(settings):
    broker = queue.Broker()
    queue.wake(7)
    first, second = broker.dequeue(), broker.dequeue()
    assert len(first) == 1
    assert not second
    assert queue.num_waiting() == 0
    assert not OrmQ.objects.exists()  # nothing is left that a retry could hand out again
    message = queue.announce_housekeeping(1)
    assert queue.is_waiting(message)
    settings.NODE_NAME = "another-host"
    assert not broker.dequeue()
    assert queue.is_waiting(message)


def test_a_message_without_work_does_nothing_however_often_it_comes(make_job):
    paused = make_job(status="paused")
    for _ in range(2):
        tasks.supervise(paused.pk)
    assert status(paused) == "paused"
    assert not Attempt.objects.exists()
    assert host.supervisors() == {}


def test_housekeeping_answers_the_canary_whatever_else_it_finds(lost_job):
    tasks.housekeep(41)
    assert host.canary_answer() == 41


def test_the_answer_to_the_canary_needs_no_room_on_the_disk():
    host.answer_canary(1)
    place = (host.folder() / "canary").stat()
    host.answer_canary(1_790_000_000_000_000)
    assert host.canary_answer() == 1_790_000_000_000_000
    now = (host.folder() / "canary").stat()
    assert (now.st_ino, now.st_size) == (place.st_ino, place.st_size)


def test_a_second_host_on_sqlite_is_refused_until_the_first_is_silent(settings):
    services.join_installation()
    Node.objects.create(name="elsewhere", last_seen_at=Now())
    if settings.SQLITE:
        with pytest.raises(services.NotOurs, match="SQLite serves one host"):
            services.join_installation()
        Node.objects.filter(name="elsewhere").update(last_seen_at=Now() - timedelta(hours=1))
    services.join_installation()


def test_another_store_is_refused():
    services.join_installation()
    services.join_installation()
    Installation.objects.update(store_id="f" * 32)
    with pytest.raises(services.NotOurs, match="not the one that this database belongs to"):
        services.join_installation()
