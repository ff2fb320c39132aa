"""Who started a worker whose data folder is gone gives up; clusters that die at once are not started in a frenzy."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from heimdall.processes import ForkedChild
from heimdall.site import keep_running
from heimdall.site.keep_running import FOLDER_IS_GONE, RUNS_ALREADY, StartPlan
from tests.support.running import PATIENCE
from training import host, services
from training.queue.cluster import ClusterStop
from training.worker.guard import TICK_SECONDS, WorkerGuard


@pytest.mark.parametrize(
    ("code", "sentence"),
    [(FOLDER_IS_GONE, "lost the data folder"), (RUNS_ALREADY, "Another worker runs in")],
)
def test_who_started_a_worker_that_can_never_work_starts_no_other(code, sentence, monkeypatch):
    site = keep_running.Pair(plan({"worker": forked(lambda: os._exit(code))}))
    site.children["worker"].wait()
    monkeypatch.setattr(site, "_start", lambda name: pytest.fail(f"{name} was started again"))
    with pytest.raises(keep_running.GivenUp, match=sentence):
        site._replace_dead()


def test_children_that_were_forked_are_told_to_stop_and_waited_for():
    site = keep_running.Pair(plan({name: forked(signal.pause) for name in ("worker", "web")}))
    children = site.children.values()
    assert [child.poll() for child in children] == [None, None]
    site._stop()
    assert [child.returncode for child in children] == [-signal.SIGTERM] * 2
    for child in children:
        child.kill()  # nobody else who has its number by now


def test_a_fork_that_leaves_a_lock_to_its_parent_keeps_it_from_nobody(tmp_path):
    held, other = host.FileLock(tmp_path / "lock"), host.FileLock(tmp_path / "lock")
    assert held.acquire()
    reader, writer = os.pipe()
    child = forked(lambda: (held.leave_to_parent(), os.write(writer, b"."), signal.pause()))
    os.read(reader, 1)
    assert held.is_in_place()
    assert not other.acquire()
    held.release()
    assert other.acquire()
    ForkedChild(child).kill()
    assert ForkedChild(child).wait() == -signal.SIGKILL
    for end in (reader, writer):
        os.close(end)


def test_a_cluster_that_waits_notices_a_signal_at_once_and_any_number_of_them():
    stop, began = ClusterStop(), time.monotonic()
    before = signal.signal(signal.SIGUSR2, stop.set)
    try:
        assert not stop.is_set()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        assert stop.wait(60 * PATIENCE)
        assert time.monotonic() - began < 30 * PATIENCE
    finally:
        signal.signal(signal.SIGUSR2, before)
    for _ in range(100_000):  # more than a pipe holds
        stop.set()
    assert stop.is_set()


def plan(children: dict[str, int]) -> StartPlan:
    return StartPlan("manage.py", 0, "127.0.0.1", 0, "localhost", "", "data", 1.0, children)


def forked(run: Callable[[], object]) -> int:
    """The pid of a child that runs this."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(99)
    return pid


@pytest.fixture
def guard(db, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    guard = WorkerGuard(services.register_node(), host.worker_lock())
    yield guard
    guard.zygote.close()


def test_clusters_that_die_at_once_are_started_ever_more_slowly(guard, monkeypatch):
    now, starts = 0.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(guard.cluster, "start", lambda: starts.append(now))
    while now < 600:
        guard._watch_cluster()
        now += TICK_SECONDS
    assert starts[0] < 1  # the first time it is tried at once
    assert 10 < len(starts) < 20
    assert max(after - before for before, after in itertools.pairwise(starts)) < 62


def test_a_cluster_that_worked_is_replaced_at_once(guard, monkeypatch):
    starts = []
    monkeypatch.setattr(guard.cluster, "start", lambda: starts.append(1))
    for number in range(5):
        guard.heartbeat.watchdog._has_answered = True
        guard._watch_cluster()
        assert len(starts) == number + 1


def test_a_heartbeat_outlives_what_nobody_foresaw(guard, monkeypatch, settings):
    """Without it the node would seem dead, and nobody would see that its cluster is."""
    settings.SWEEP_SECONDS = 0.01
    looks = []

    def look():
        looks.append(1)
        if len(looks) == 1:
            raise RuntimeError("the driver of a GPU said something strange")
        guard.heartbeat.end()

    monkeypatch.setattr(guard.heartbeat, "_beat", look)
    guard.heartbeat.run()
    assert len(looks) == 2


def test_a_lock_knows_whether_its_name_still_leads_to_it(tmp_path):
    held = host.FileLock(tmp_path / "lock")
    assert not held.is_in_place()
    assert held.acquire()
    assert held.is_in_place()
    (tmp_path / "lock").rename(tmp_path / "other")
    assert not held.is_in_place()
    (tmp_path / "lock").touch()  # somebody made it again: it is another one
    assert not held.is_in_place()


@pytest.mark.parametrize("fruitless", [0, 1, 3, 100_000])
def test_however_many_clusters_died_another_one_comes_within_minutes(fruitless, guard, settings):
    settings.CANARY_SECONDS = 30
    watchdog = guard.heartbeat.watchdog
    watchdog._fruitless = fruitless
    assert watchdog.pause_before_the_next_cluster() == {0: 0, 1: 1, 3: 4, 100_000: 60}[fruitless]
    assert watchdog._patience() == {0: 30, 1: 60, 3: 240, 100_000: 600}[fruitless]


def test_a_full_disk_keeps_no_lock_taken(tmp_path, monkeypatch):
    held = host.FileLock(tmp_path / "lock")
    with monkeypatch.context() as full:

        def refuse(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(os, "pwrite", refuse)
        with pytest.raises(OSError, match="No space left"):
            held.acquire()
    assert held.holder() is None
    assert host.FileLock(tmp_path / "lock").acquire()
