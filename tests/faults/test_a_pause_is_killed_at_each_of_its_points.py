"""kill -9 at each named point of a pause, between the snapshot and what follows the landing, once each."""

from __future__ import annotations

import pytest

from tests.running import PATIENCE, Site, running
from training.management.commands.worker import FOLDER_IS_GONE

pytestmark = pytest.mark.processes

IN_THE_TRAINER = ["snapshot_taken", "before_write", "checkpoint_half_written", "checkpoint_before_rename",
                  "file_staged", "staged", "stopping"]  # fmt: skip
IN_THE_SUPERVISOR = ["before_upload", "after_upload", "before_landing", "after_landing"]
POINTS = {*IN_THE_TRAINER, *IN_THE_SUPERVISOR}
CONFIG = {"epochs": 3, "samples": 320, "step_seconds": 0.04, "seed": 5, "checkpoint_every_epochs": 0,
          "checkpoint_every_minutes": 0, "keep_best": 0}  # fmt: skip


@pytest.fixture(scope="module")
def fired(tmp_path_factory):
    """Holds a file for each point that has killed."""
    return tmp_path_factory.mktemp("fired")


@pytest.fixture(scope="module")
def site(tmp_path_factory, fired):
    settings = {
        "HEIMDALL_FAILPOINTS": ",".join(f"{point}=kill" for point in POINTS),
        "HEIMDALL_FAILPOINTS_ONCE": str(fired),
        "HEIMDALL_LEASE_SECONDS": "30",
    }
    with running(tmp_path_factory.mktemp("site"), **settings) as site:
        yield site


def paused(site: Site, job: int, attempt: int) -> dict:
    """Ask while this attempt trains, and wait for what becomes of it."""
    site.wait_for(job, lambda seen: seen["attempt"] == attempt and seen["phase"] == "training")
    site.pause(job, "step")
    return site.wait_for(job, lambda seen: seen["status"] != "running")


def test_whichever_point_it_dies_at_the_job_is_paused_and_ends_bit_identical(site, fired):
    job, died_at, attempt, covered = site.submit(**CONFIG), set(), 0, 0
    while died_at != POINTS:
        attempt += 1
        seen = paused(site, job, attempt)
        assert seen["status"] == "paused", seen
        new = {path.name for path in fired.iterdir()} - died_at
        assert 1 <= len(new) <= 2, new  # a trainer's death and its supervisor's may meet in one pause
        died_at |= new
        step = seen["checkpoint"]["step"] if seen["checkpoint"] else 0
        assert seen["current_step"] == step >= covered  # no progress that no file covers, and none lost
        covered = step
        site.verb(job, "resume")
    assert covered > 0  # what was staged when the trainer died counts
    undisturbed = site.submit(**CONFIG)
    for each in (job, undisturbed):
        site.wait_for_status(each, "completed")
    assert site.final(job)["digest"] == site.final(undisturbed)["digest"]
    rows = [[(row["values"], row["epoch_values"]) for row in site.metrics(one)] for one in (job, undisturbed)]
    assert rows[0] == rows[1]


def test_a_worker_whose_folder_was_moved_away_says_so_and_leaves_no_process(site, tmp_path):
    site.data.rename(tmp_path / "elsewhere")  # last: nothing runs here after it
    assert site.worker.wait(timeout=30 * PATIENCE) == FOLDER_IS_GONE
    assert f"The data folder {site.data} was moved or deleted" in site.log
    site.wait_until(lambda: {each.pid for each in site.processes()} <= {site.web.pid}, seconds=10)
