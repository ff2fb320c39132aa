"""What django-q2 and the database do when they are hurt, and that running jobs do not notice."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress

import psutil
import pytest

from tests.support.running import PATIENCE, Site, running

pytestmark = pytest.mark.processes
AWAY_SECONDS = float(os.environ.get("AWAY_SECONDS", "4.5"))  # longer than the lease
LONG = {"epochs": 500, "samples": 320, "step_seconds": 0.05, "checkpoint_every_epochs": 0}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with running(folder, HEIMDALL_CANARY_SECONDS="3", HEIMDALL_SQLITE_BUSY_SECONDS="1") as site:
        yield site


@pytest.fixture(scope="module")
def job(site):
    job = site.submit(**LONG)
    site.wait_for_step(job, 1)
    return job


def head(site: Site) -> psutil.Process:
    """The main process of the cluster that the guard runs now."""
    return site.wait_until(site.queue_heads, seconds=30)[0]


def idle_workers(cluster: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in cluster.children(recursive=True):
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).strip().endswith(" idle"):
                found.append(process)
    return found


def strangers(processes: list[psutil.Process]) -> list[str]:
    """Who outlived the cluster and does not belong to an attempt. A dead process that nobody reaped is no one."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and "supervisor" not in title:
                found.append(title)
    return found


def assert_replaced_without_harm(site: Site, job: int, old: psutil.Process) -> None:
    site.wait_until(lambda: head(site).pid != old.pid, seconds=60)
    before = site.job(job)
    site.wait_for_step(job, before["current_step"] + 5)
    assert site.job(job)["attempt"] == 1
    site.wait_until(lambda: idle_workers(head(site)), seconds=30)


def test_a_killed_idle_process_that_kept_the_queues_lock(site, job):
    old = head(site)
    (idle,) = site.wait_until(lambda: idle_workers(old), seconds=30)
    idle.kill()  # it was reading: nobody can take a message any more
    assert_replaced_without_harm(site, job, old)
    assert "takes no messages" in site.log


def test_a_killed_head_of_the_cluster(site, job):
    old = head(site)
    others = old.children(recursive=True)
    old.kill()
    assert_replaced_without_harm(site, job, old)
    site.wait_until(lambda: not strangers(others), seconds=10, about=lambda: f"alive: {strangers(others)}")
    supervisor = site.the("supervisor", f"job {job}")
    site.verb(job, "cancel")
    site.wait_for_status(job, "cancelled")
    supervisor.wait(timeout=20 * PATIENCE)  # its cluster is gone: it leaves with its attempt


def test_a_lost_message_delays_a_job_and_no_more(site):
    pusher = site.the("pusher")
    suspend_outside_a_transaction(site, pusher)
    try:
        job = site.submit(epochs=1)
        with site.database() as database:
            assert database.execute("delete from django_q_ormq").rowcount >= 1
    finally:
        pusher.resume()
    site.wait_for(job, lambda seen: seen["status"] != "queued", seconds=15)
    site.wait_for_status(job, "completed")


def suspend_outside_a_transaction(site, process):
    """A process that is stopped in the middle of a write keeps everybody from writing, on SQLite."""
    if site.is_on_postgres:
        process.suspend()
        return

    def is_suspended_well():
        process.suspend()
        with closing(
            sqlite3.connect(site.data / "heimdall.sqlite3", timeout=0.2, isolation_level=None)
        ) as other:
            try:
                other.execute("begin immediate")
                return True
            except sqlite3.OperationalError:
                process.resume()
                return False

    site.wait_until(is_suspended_well, seconds=15)


def test_messages_that_come_twice_start_nothing_twice(site):
    job = site.submit(epochs=2, samples=320, step_seconds=0.05)
    with site.database() as database:
        for _ in range(3):
            database.execute(
                "insert into django_q_ormq (key, payload, lock) select key, payload, lock from django_q_ormq "
                "where key = 'heimdall' limit 1"
            )
    site.wait_for_status(job, "completed")
    assert len(site.rows("select id from training_attempt where job_id=?", job)) == 1


def test_a_database_that_is_locked_while_a_job_ends_loses_nothing(site):
    epochs = max(2, int(AWAY_SECONDS / 2))  # it is at its end before the database is back
    job = site.submit(epochs=epochs, samples=320, step_seconds=0.1)
    site.wait_for_step(job, 12)
    with site.database() as database:
        lock_everything = (
            "begin; lock table training_trainingjob" if site.is_on_postgres else "begin immediate"
        )
        database.execute(lock_everything)
        locked_at = time.monotonic()
        trainer = site.the("heimdall trainer", f"job {job}")
        stored = site.data / "checkpoints" / "jobs" / str(job) / "a1"
        with closing(database):
            over = locked_at + AWAY_SECONDS
            site.wait_until(lambda: time.monotonic() > over, seconds=2 * AWAY_SECONDS)
            # Every step was made meanwhile: what it ended with is stored, and no row says so yet.
            site.wait_until(lambda: list(stored.glob(f"s{9 * epochs}-*.safetensors")), seconds=30)
            assert trainer.is_running()
            database.execute("rollback")
    ended = site.wait_for_status(job, "completed", "failed")
    assert (ended["status"], ended["attempt"], ended["current_step"]) == ("completed", 1, 9 * epochs)
    assert len(site.metrics(job)) == 9 * epochs
    executed = site.rows("select steps_executed from training_attempt where job_id=?", job)
    assert [row["steps_executed"] for row in executed] == [9 * epochs]
