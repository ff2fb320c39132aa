"""What a worker does with jobs, seen from outside: one web server and one worker with one slot."""

from __future__ import annotations

import pytest

from tests.support.running import Answer, Site, running

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("site"), HEIMDALL_STALL_SECONDS="4") as site:
        yield site


def kinds(site: Site, job: int) -> list[str]:
    return [event["kind"] for event in site.events(job)]


def test_a_submitted_job_is_trained_to_its_end_while_others_wait_their_turn(site):
    first = site.submit(epochs=2, samples=320, step_seconds=0.05)
    second = site.submit("shards", samples=30, samples_per_shard=10)
    third = site.submit(epochs=1)
    site.pause(third)
    assert site.job(third)["status"] == "paused"  # it was queued: there was nothing to land
    done = site.wait_for_status(first, "completed", "failed")
    assert (done["status"], done["current_epoch"], done["progress_percent"]) == ("completed", 2, 100.0)
    assert kinds(site, first).count("epoch") == 2
    assert len(site.metrics(first)) == done["current_step"] == done["total_steps"]
    assert site.final(first)["step"] == done["current_step"]
    generated = site.wait_for_status(second, "completed", "failed")
    assert (generated["status"], generated["current_step"], generated["total_epochs"]) == ("completed", 3, 0)
    with pytest.raises(Answer, match="Cannot pause synthetic data generation jobs"):
        site.pause(second)
    assert site.job(third)["attempt"] == 0


def test_a_more_urgent_job_makes_a_running_one_wait(site):
    patient = site.submit(epochs=5, samples=320, step_seconds=0.1)
    site.wait_for_step(patient, 2)
    urgent = site.submit(epochs=1, priority=10)
    site.wait_for_status(urgent, "completed")
    assert "preempt" in kinds(site, patient)
    site.wait_for(patient, lambda job: job["status"] == "running" and job["attempt"] == 2)
    site.verb(patient, "cancel")
    site.wait_for_status(patient, "cancelled")
    assert site.job(patient)["verbs"] == ["resume", "restart", "delete"]


def test_a_recipe_that_raises_fails_once_and_shows_its_traceback(site):
    job = site.submit("faulty", fault="raise", fault_step=2)
    seen = site.wait_for_status(job, "failed")
    assert seen["error_code"] == "recipe_error"
    assert "ValueError: <script>" in seen["error_message"]  # escaped by those who show it
    assert seen["attempt"] == 1


def test_the_log_of_a_job_that_fails_while_it_prints_is_whole(site):
    job = site.submit("faulty", fault="print", fault_step=2)
    seen = site.wait_for_status(job, "failed")
    assert "it failed while it printed" in seen["error_message"]
    log = "".join(
        row["text"] for row in site.rows("select text from training_logchunk where job_id=? order by id", job)
    )
    lines = [line for line in log.splitlines() if line.startswith(("line ", "the last "))]
    assert lines == [*(f"line {number:04} {'x' * 60}" for number in range(2_000)), "the last line"]


def test_a_loss_that_is_no_number_is_said_once_and_ends_nothing(site):
    job = site.submit("faulty", epochs=2, fault="nan", fault_step=3)
    site.wait_for_status(job, "completed")
    (event,) = [event for event in site.events(job) if event["kind"] == "loss_not_finite"]
    assert event["message"].startswith("The loss is not a number since step 3 (")
    assert event["data"]["step"] == 3


def test_a_trainer_that_ends_itself_fails_its_job_once_and_the_reason_is_said(site):
    job = site.submit("faulty", fault="leave", fault_step=2)
    seen = site.wait_for_status(job, "failed")
    assert (seen["error_code"], seen["attempt"]) == ("ended_itself", 1)
    assert "as os._exit(0) does" in seen["error_message"]


def test_a_trainer_that_dies_again_and_again_fails_its_job(site):
    # At the first: how much is recorded of steps before one that kills is not the same each time.
    job = site.submit("faulty", fault="abort", fault_step=1)
    seen = site.wait_for_status(job, "failed", seconds=90)
    assert (seen["error_code"], seen["attempt"]) == ("crash_loop", 3)
    assert "SIGABRT" in seen["error_message"]


def test_a_trainer_that_hangs_is_killed_and_the_job_goes_on(site, tmp_path):
    job = site.submit("faulty", epochs=1, fault="hang", fault_step=2, once=str(tmp_path / "hung"))
    seen = site.wait_for_status(job, "completed", seconds=90)
    assert seen["attempt"] == 2
    assert "crash" in kinds(site, job)


def test_loader_workers_work_and_end_with_their_trainer(site):
    job = site.submit(epochs=1, num_workers=2)
    site.wait_for_status(job, "completed", "failed")
    assert site.job(job)["status"] == "completed"
    site.wait_until(lambda: not site.named("trainer"), seconds=10)


def test_no_supervisor_has_torch_in_its_memory(site):
    job = site.submit(epochs=3, samples=640, step_seconds=0.1)
    site.wait_for_step(job, 1)
    supervisor = site.the("supervisor")
    loaded = {row.path for row in supervisor.memory_maps()}
    assert any("libpython" in path or "python" in path for path in loaded)
    assert not [path for path in loaded if "/torch/" in path or "numpy" in path]
    site.verb(job, "cancel")
    site.wait_for_status(job, "cancelled")


def test_a_store_that_is_away_holds_up_the_pause_and_not_the_training(site):
    config = {"epochs": 2, "samples": 320, "step_seconds": 0.1, "checkpoint_every_epochs": 0, "keep_best": 0}
    job = site.submit(**config)
    folder = site.data / "checkpoints" / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    obstacle = folder / str(job)
    obstacle.touch()  # where the job's folder would be
    site.wait_for_step(job, 1)
    site.pause(job, "step")
    site.wait_until(lambda: "checkpoint_failed" in kinds(site, job), seconds=30)
    seen = site.job(job)
    assert (seen["status"], seen["stop"]) == (
        "running",
        {"kind": "pause", "at": "step"},
    )  # a request is not a fact
    site.verb(job, "resume")  # and it can be withdrawn
    site.wait_for_step(job, 18)  # all steps, while the store is away
    assert site.job(job)["status"] == "running"
    obstacle.unlink()
    site.wait_for_status(job, "completed")
    assert site.final(job)["step"] == 18
    assert site.job(job)["checkpoint"]["step"] == 18
    assert site.job(job)["attempt"] == 1
