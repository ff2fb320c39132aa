"""What a synthetic-data job writes: recorded under the fence, kept by cancel, extended without a gap."""

import hashlib
from pathlib import Path

import pytest

from heimdall.errors import InvalidInput
from heimdall.trainer.protocol import StagedShard
from training import services
from training.errors import StaleAttempt, TransitionRefused
from training.models import Dataset, Shard, TrainingJob
from training.store import datasets

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _store(settings, tmp_path):
    backend = {
        "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
        "OPTIONS": {"location": tmp_path / "datasets"},
    }
    settings.STORAGES = settings.STORAGES | {"datasets": backend}


@pytest.fixture
def job(alice, team):
    config = {"samples": 30, "samples_per_shard": 10}
    return services.submit(by=alice, job_name="Alpine Radio", recipe="shards", config=config, team=team).job


@pytest.fixture
def attempt(job, node):
    return services.claim(node, slot=0, pid=1)


def make(attempt, number: int, tmp_path: Path) -> Shard:
    path = tmp_path / f"shard-{number}"
    path.write_text(f"shard {number}")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = {"shard": number, "path": path.name, "size": path.stat().st_size, "sha256": sha256, "samples": 10}
    entry |= {"refused_too_weak": number}
    job = attempt.job
    staged = StagedShard(str(path), entry, done=number + 1, total=3)
    stored = datasets.store(staged, dataset=job.dataset.name, job_id=job.pk, attempt=attempt.number)
    return services.record_shard(attempt, stored)


def test_the_dataset_is_named_after_its_job_and_names_are_free(job, alice):
    assert job.dataset.name == "alpine-radio"
    again = services.submit(by=alice, job_name="Alpine radio", recipe="shards", config={}).job
    assert again.dataset.name == "alpine-radio-2"
    assert job.total_epochs == 0


def test_finished_shards_are_the_progress(attempt, tmp_path):
    make(attempt, 0, tmp_path)
    make(attempt, 1, tmp_path)
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.current_step, job.total_steps) == (2, 3)
    assert job.metrics == {"samples": 20, "refused_too_weak": 1}
    assert (job.dataset.samples, job.dataset.refused) == (20, {"too_weak": 1})
    assert services.finished_shards(job) == [0, 1]


def test_recording_a_shard_twice_is_once(attempt, tmp_path):
    first, second = make(attempt, 0, tmp_path), make(attempt, 0, tmp_path)
    assert first == second
    assert Dataset.objects.get().samples == 10


def test_a_crash_and_a_cancel_keep_what_is_there_and_a_stale_worker_adds_nothing(
    attempt, tmp_path, node, alice
):
    make(attempt, 0, tmp_path)
    services.crash(attempt, exit_code=-9)
    assert TrainingJob.objects.get(pk=attempt.job_id).current_step == 1
    with pytest.raises(StaleAttempt):
        make(attempt, 1, tmp_path)
    again = services.claim(node, slot=0, pid=1)
    make(again, 1, tmp_path)
    services.cancel(again.job, by=alice)
    services.land(again)
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.status, job.current_step, job.dataset.samples) == ("cancelled", 2, 20)
    services.resume(job, by=alice)
    assert services.claim(node, slot=0, pid=1).job.current_step == 2


def test_the_fingerprint_changes_with_the_content(attempt, tmp_path):
    make(attempt, 0, tmp_path)
    first = Dataset.objects.get().fingerprint
    make(attempt, 1, tmp_path)
    assert Dataset.objects.get().fingerprint != first


def test_a_dataset_comes_to_a_trainer_as_one_folder_that_is_checked(attempt, tmp_path):
    row = make(attempt, 0, tmp_path)
    dataset = Dataset.objects.get()
    folder = datasets.bring(dataset, tmp_path / "scratch")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "shard-0"]
    (folder / "shard-0").unlink()
    Path(datasets.dataset_storage().path(row.file.name)).write_text("shard 9")
    with pytest.raises(datasets.BadDataset, match="has changed"):
        datasets.bring(dataset, tmp_path / "scratch")


def test_data_that_cannot_be_extended_says_so(attempt, alice, tmp_path):
    with pytest.raises(TransitionRefused, match="cannot be extended"):
        services.extend(attempt.job, by=alice, samples=10)


def test_extending_waits_for_the_end_and_goes_on_at_the_next_sample(alice, node, tmp_path):
    config = {"samples": 200, "samples_per_shard": 100}
    job = services.submit(by=alice, job_name="radio", recipe="rf_dataset", config=config).job
    attempt = services.claim(node, slot=0, pid=1)
    make(attempt, 0, tmp_path)
    with pytest.raises(TransitionRefused, match="not finished"):
        services.extend(job, by=alice, samples=100)
    services.complete(attempt, None)
    more = services.extend(job, by=alice, samples=100).job
    assert (more.config["first_sample"], more.config["samples"]) == (10, 100)
    assert (more.dataset, more.parent) == (job.dataset, job)


def test_a_training_names_a_dataset_that_its_owner_sees_and_waits_for_it(alice, mallory, node_of_two):
    config = {"samples": 200, "samples_per_shard": 100}
    made = services.submit(by=alice, job_name="radio", recipe="rf_dataset", config=config).job
    with pytest.raises(InvalidInput, match="no dataset 'radio'"):
        services.submit(
            by=mallory, job_name="x", recipe="localization", config={"dataset": "radio", "samples": 200}
        )
    training = services.submit(
        by=alice, job_name="x", recipe="localization", config={"dataset": "radio", "samples": 200}, priority=9
    ).job
    assert training.dataset == made.dataset
    attempt = services.claim(node_of_two, slot=0, pid=1)
    assert attempt.job == made
    assert services.claim(node_of_two, slot=1, pid=2) is None
    services.complete(attempt, None)
    assert services.claim(node_of_two, slot=1, pid=2).job == training


def test_a_dataset_in_use_cannot_be_deleted(
    attempt, alice, mallory, django_capture_on_commit_callbacks, tmp_path
):
    make(attempt, 0, tmp_path)
    dataset = Dataset.objects.get()
    with pytest.raises(TransitionRefused, match="needed by job"):
        services.delete_dataset(dataset, by=alice)
    services.complete(attempt, None)
    with django_capture_on_commit_callbacks(execute=True):
        services.delete_dataset(dataset, by=alice)
    assert Shard.objects.count() == 0
    assert [path for path in (tmp_path / "datasets").rglob("*") if path.is_file()] == []
