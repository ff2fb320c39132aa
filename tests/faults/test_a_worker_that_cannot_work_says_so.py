"""A worker whose data folder is gone leaves, and one whose clusters die at once does not start them in a frenzy."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.running import PATIENCE, running
from training import host, services
from training.management.commands import worker


@pytest.mark.processes
@pytest.mark.xdist_group("processes")
def test_a_worker_whose_folder_was_moved_away_says_so_and_leaves_no_process(tmp_path):
    with running(tmp_path, web=False, worker=False, HEIMDALL_START_METHOD="cold") as site:
        starter = site.start("start")
        site.wait_until(site.answers, seconds=60)
        site.data.rename(tmp_path / "elsewhere")
        assert starter.wait(timeout=30 * PATIENCE) == 1
        assert f"The data folder {site.data} was moved or deleted" in site.log
        assert "The worker has lost the data folder" in site.log
        assert site.log.count("starting a fresh one") == 0
        site.wait_until(lambda: not site.processes(), seconds=10)


@pytest.fixture
def guard(db, settings, tmp_path) -> worker.Guard:
    settings.DATA_DIR = tmp_path
    return worker.Guard(services.register_node(), host.guard())


def test_clusters_that_die_at_once_are_started_ever_more_slowly(guard, monkeypatch):
    now, starts = 0.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(guard.cluster, "start", lambda: starts.append(now))
    while now < 600:
        guard._watch_cluster()
        now += worker.TICK_SECONDS
    assert starts[0] < 1  # the first time it is tried at once
    assert 10 < len(starts) < 20
    assert max(after - before for before, after in itertools.pairwise(starts)) < 62


def test_a_cluster_that_worked_is_replaced_at_once(guard, monkeypatch):
    starts = []
    monkeypatch.setattr(guard.cluster, "start", lambda: starts.append(1))
    for number in range(5):
        guard.pulse._has_answered = True
        guard._watch_cluster()
        assert len(starts) == number + 1


def test_a_lock_knows_whether_its_name_still_leads_to_it(tmp_path):
    held = host.HeldFile(tmp_path / "lock")
    assert not held.is_in_place()
    assert held.take()
    assert held.is_in_place()
    (tmp_path / "lock").rename(tmp_path / "other")
    assert not held.is_in_place()
    (tmp_path / "lock").touch()  # somebody made it again: it is another one
    assert not held.is_in_place()
