"""kill -9 at each named point of a pause and of a training, once each; at five of them on PostgreSQL with S3, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.servers import BUCKET, CREDENTIALS, rclone
from tests.support.running import PATIENCE, Site, running
from training.management.commands.worker import FOLDER_IS_GONE

pytestmark = pytest.mark.processes

IN_THE_TRAINER = ["snapshot_taken", "before_write", "checkpoint_half_written", "checkpoint_before_rename",
                  "file_staged", "staged", "stopping"]  # fmt: skip
IN_THE_SUPERVISOR = ["before_upload", "after_upload", "before_landing", "after_landing"]
OF_A_PAUSE = {*IN_THE_TRAINER, *IN_THE_SUPERVISOR}
OF_A_TRAINING = {"step_finished", "validating", "epoch_closed", "finishing", "recorded"}
OF_A_GENERATION = {"shard_made", "shard_finished"}
ELSEWHERE = {"file_staged", "staged", "stopping", "after_upload", "after_landing"}
CONFIG = {"epochs": 3, "samples": 320, "step_seconds": 0.04, "seed": 5, "checkpoint_every_epochs": 0,
          "checkpoint_every_minutes": 0, "keep_best": 0}  # fmt: skip


def settings_of(fired: Path, points: set[str]) -> dict[str, str]:
    """Each point kills once and leaves a file of its name in the folder."""
    return {
        "HEIMDALL_FAILPOINTS": ",".join(f"{point}=kill" for point in sorted(points)),
        "HEIMDALL_FAILPOINTS_ONCE": str(fired),
        "HEIMDALL_LEASE_SECONDS": "30",
    }


@pytest.fixture(scope="module")
def fired(tmp_path_factory) -> Path:
    """Holds a file for each point that has killed. Those of a training wait for their test: see `arm`."""
    folder = tmp_path_factory.mktemp("fired")
    for point in OF_A_TRAINING | OF_A_GENERATION:
        (folder / point).touch()
    return folder


def arm(fired: Path, points: set[str]) -> None:
    for point in points:
        (fired / point).unlink()


@pytest.fixture(scope="module")
def site(tmp_path_factory, fired):
    settings = settings_of(fired, OF_A_PAUSE | OF_A_TRAINING | OF_A_GENERATION)
    with running(tmp_path_factory.mktemp("site"), **settings) as site:
        yield site


def paused(site: Site, job: int, attempt: int) -> dict:
    """Ask while this attempt trains, and wait for what becomes of it."""
    site.wait_for(job, lambda seen: seen["attempt"] == attempt and seen["phase"] == "training")
    site.pause(job, "step")
    return site.wait_for(job, lambda seen: seen["status"] != "running")


def paused_at_each(site: Site, job: int, fired: Path, points: set[str]) -> None:
    """Pause and resume it until every point has killed. Each time it is paused, at what a checkpoint covers."""
    before = {path.name for path in fired.iterdir()}
    died_at, attempt, covered = set(before), 0, 0
    while died_at != before | points:
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


def assert_the_same(site: Site, *jobs: int) -> None:
    for job in jobs:
        assert site.wait_for_status(job, "completed", "failed")["status"] == "completed"
    first, *others = [
        (site.final(job)["digest"], [(row["values"], row["epoch_values"]) for row in site.metrics(job)])
        for job in jobs
    ]
    assert others == [first] * len(others)


def test_whichever_point_it_dies_at_the_job_is_paused_and_ends_bit_identical(site, fired):
    job = site.submit(**CONFIG)
    paused_at_each(site, job, fired, OF_A_PAUSE)
    assert_the_same(site, job, site.submit(**CONFIG))


def test_whichever_point_it_dies_at_a_training_goes_on_and_ends_bit_identical(site, fired):
    arm(fired, OF_A_TRAINING)
    config = CONFIG | {"checkpoint_every_epochs": 1}
    job = site.submit(**config)
    assert_the_same(site, job, site.submit(**config))
    assert {path.name for path in fired.iterdir()} >= OF_A_TRAINING
    assert site.job(job)["attempt"] > 3


def test_whichever_point_it_dies_at_a_dataset_is_made_whole_and_each_shard_once(site, fired):
    arm(fired, OF_A_GENERATION)
    job = site.submit("shards", samples=30, samples_per_shard=10)
    seen = site.wait_for_status(job, "completed", "failed")
    assert (seen["status"], seen["current_step"]) == ("completed", 3)
    assert {path.name for path in fired.iterdir()} >= OF_A_GENERATION
    texts = sorted(path.read_text() for path in (site.data / "datasets").rglob("shard-*.txt"))
    assert texts == ["\n".join(str(shard * 1000 + number) for number in range(10)) for shard in range(3)]


def test_whichever_point_it_dies_at_on_postgresql_and_s3_it_is_the_same(postgresql, tmp_path):
    fired, bucket = tmp_path / "fired", tmp_path / "s3"
    fired.mkdir()
    (bucket / BUCKET).mkdir(parents=True)
    with rclone(bucket) as address:
        store = CREDENTIALS | {"HEIMDALL_S3_BUCKET": BUCKET, "HEIMDALL_S3_ENDPOINT": address}
        settings = store | settings_of(fired, ELSEWHERE)
        with running(tmp_path, server=postgresql, **settings) as site:
            job = site.submit(**CONFIG)
            paused_at_each(site, job, fired, ELSEWHERE)
            assert_the_same(site, job, site.submit(**CONFIG))


def test_a_worker_whose_folder_was_moved_away_says_so_and_leaves_no_process(site, tmp_path):
    site.data.rename(tmp_path / "elsewhere")  # last: nothing runs here after it
    assert site.worker.wait(timeout=30 * PATIENCE) == FOLDER_IS_GONE
    assert f"The data folder {site.data} was moved or deleted" in site.log
    site.wait_until(lambda: {each.pid for each in site.processes()} <= {site.web.pid}, seconds=10)
