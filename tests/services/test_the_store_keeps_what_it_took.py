"""The local store: whole or not at all, durable in the right order, verified when it is read."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone

from heimdall import codec
from tests.conftest import give_checkpoint
from tests.support.staged import staged
from training import services
from training.errors import BadCheckpoint, StorageUnavailable
from training.models import Attempt, Checkpoint, TrainingJob, checkpoint_storage
from training.store import checkpoints
from training.store.file_system import AtomicFileSystemStorage


@pytest.fixture(autouse=True)
def _store(settings, tmp_path):
    """A store of this test's own."""
    settings.STORAGES = settings.STORAGES | {
        "checkpoints": {
            "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
            "OPTIONS": {"location": tmp_path / "store"},
        }
    }


@pytest.fixture
def attempt(make_job):
    return Attempt.objects.get(job=make_job(status="running"))


def record(attempt, tmp_path, **facts) -> Checkpoint:
    stored = checkpoints.store(staged(tmp_path, **facts), job_id=attempt.job_id, attempt=attempt.number)
    return services.record_checkpoint(attempt, stored)


@pytest.mark.django_db
def test_a_staged_file_is_taken_over_and_comes_back_verified(attempt, tmp_path):
    message = staged(tmp_path)
    stored = checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
    assert not os.path.exists(message.path)
    row = services.record_checkpoint(attempt, stored)
    copy = checkpoints.fetch(row, tmp_path / "scratch")
    assert codec.verify(copy).digest == row.digest
    assert row.file.name.startswith(f"jobs/{attempt.job_id}/a{attempt.number}/s4-")


@pytest.mark.django_db
def test_the_same_state_in_another_file_leaves_the_first_file_alone(attempt, tmp_path):
    """An epoch's checkpoint, and a pause at the same step: equal digests, and files of different sizes."""
    first = record(attempt, tmp_path, kinds=("periodic",))
    second = record(attempt, tmp_path, kinds=("pause",), told="something longer than before")
    assert first.digest == second.digest
    for row in (first, second):
        assert codec.verify(checkpoints.fetch(row, tmp_path / "scratch")).digest == row.digest


@pytest.mark.django_db
def test_storing_the_same_state_again_gives_one_row_with_both_kinds(attempt, tmp_path):
    first = record(attempt, tmp_path, kinds=("periodic",))
    second = record(attempt, tmp_path, kinds=("best",))
    assert first == second
    assert second.kinds == ["best", "periodic"]
    assert TrainingJob.objects.get(pk=attempt.job_id).checkpoints_stored == 1


@pytest.mark.django_db
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "other"])
def test_a_damaged_file_is_noticed_when_it_is_fetched(attempt, tmp_path, damage):
    row = record(attempt, tmp_path)
    path = Path(checkpoint_storage().path(row.file.name))
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        del content[-1:]
    elif damage == "empty":
        content = bytearray()
    elif damage == "other":
        content = bytearray(Path(staged(tmp_path, value=2.0).path).read_bytes())
    checkpoints.leave_mark("of these tests")
    path.unlink()
    checkpoints.leave_mark("ours")  # without it the whole store would seem to be away
    if damage != "gone":
        path.write_bytes(content)
    with pytest.raises(BadCheckpoint):
        checkpoints.fetch(row, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.django_db
def test_a_file_whose_row_names_no_header_is_checked_by_itself(attempt, tmp_path):
    """As those that were stored before headers were hashed."""
    row = record(attempt, tmp_path)
    row.header_sha256 = ""
    copy = checkpoints.fetch(row, tmp_path / "scratch")
    copy.unlink()
    other = Path(staged(tmp_path, value=2.0).path).read_bytes()
    Path(checkpoint_storage().path(row.file.name)).write_bytes(other)
    with pytest.raises(BadCheckpoint, match="another state"):
        checkpoints.fetch(row, tmp_path / "scratch")


@pytest.mark.django_db
def test_the_same_state_in_another_file_is_not_the_file_that_was_stored(attempt, tmp_path):
    row = record(attempt, tmp_path, told="one")
    other = staged(tmp_path, told="two")
    assert (other.digest, other.size) == (row.digest, row.size)
    os.replace(other.path, checkpoint_storage().path(row.file.name))
    with pytest.raises(BadCheckpoint, match="was changed after it was stored"):
        checkpoints.fetch(row, tmp_path / "scratch")


@pytest.mark.django_db
def test_a_store_that_cannot_be_read_is_unavailable_and_not_bad(attempt, tmp_path, monkeypatch):
    row = record(attempt, tmp_path)

    def refuse(*args, **kwargs):
        raise ConnectionError("no route to the store")

    monkeypatch.setattr(AtomicFileSystemStorage, "open", refuse)
    with pytest.raises(StorageUnavailable, match="no route"):
        checkpoints.fetch(row, tmp_path / "scratch")


def test_a_file_is_durable_before_its_name_and_the_folder_after(tmp_path, monkeypatch):
    """fsync of the content, rename, fsync of the folder: any other order can lose the file to a power cut."""
    log = []
    real_fsync, real_rename = os.fsync, os.replace

    def fsync(handle):
        log.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        real_fsync(handle)

    def rename(source, target):
        log.append(("rename", os.path.basename(target)))
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    storage = AtomicFileSystemStorage(location=tmp_path / "store")
    storage.save("jobs/1/file", ContentFile(b"content"))
    assert {("fsync", "store"), ("fsync", "jobs")} <= set(log)  # the new folders' own entries
    part, renamed, folder = log[-3:]
    assert part[0] == "fsync"
    assert part[1].endswith(".part")
    assert renamed == ("rename", "file")
    assert folder == ("fsync", "1")


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    storage = AtomicFileSystemStorage(location=tmp_path / "store")

    class Full(ContentFile):
        def read(self, *args):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        storage.save("jobs/1/file", Full(b"content"))
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


@pytest.mark.django_db
def test_retention_deletes_row_and_file_and_spares_what_somebody_stands_on(
    attempt, tmp_path, django_capture_on_commit_callbacks
):
    rows = [record(attempt, tmp_path, step=step, value=float(step)) for step in range(1, 6)]
    Attempt.objects.filter(pk=attempt.pk).update(started_from=rows[0])
    TrainingJob.objects.filter(pk=attempt.job_id).update(
        config=attempt.job.config | {"keep_last": 1, "keep_best": 0}
    )
    assert services.retire_checkpoints(attempt.job) == 3
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [1, 5]
    assert sorted(checkpoints.stored_names()) == sorted(Checkpoint.objects.values_list("file", flat=True))


@pytest.mark.django_db
def test_orphaned_files_go_after_their_grace_and_known_ones_stay(attempt, tmp_path):
    row = record(attempt, tmp_path)
    storage = checkpoint_storage()
    young = storage.save("jobs/9/a1/young", ContentFile(b"x"))
    old = storage.save("jobs/9/a1/old", ContentFile(b"x"))
    past = (timezone.now() - timedelta(hours=2)).timestamp()
    os.utime(storage.path(old), (past, past))
    os.utime(storage.path(row.file.name), (past, past))
    assert services.delete_orphaned_files() == [old]
    assert storage.exists(young)
    assert storage.exists(row.file.name)


@pytest.mark.django_db
def test_a_file_that_was_staged_long_ago_is_no_orphan_the_moment_it_is_taken(attempt, tmp_path):
    message = staged(tmp_path)
    past = (timezone.now() - timedelta(hours=2)).timestamp()
    os.utime(message.path, (past, past))
    checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
    assert services.delete_orphaned_files() == []


@pytest.mark.django_db
def test_deleting_a_job_deletes_its_files(attempt, tmp_path, alice, django_capture_on_commit_callbacks):
    record(attempt, tmp_path)
    services.complete(attempt, None)
    with django_capture_on_commit_callbacks(execute=True):
        services.delete(attempt.job, by=alice)
    assert list(checkpoints.stored_names()) == []


@pytest.mark.django_db
def test_many_jobs_and_files_are_looked_through_with_few_queries(make_job, django_assert_max_num_queries):
    rows = [make_job(status="completed", step=4, with_checkpoint=True).latest_checkpoint for _ in range(12)]
    for row in rows:
        checkpoint_storage().save(row.file.name, ContentFile(b"x"))
    with django_assert_max_num_queries(6):
        assert services.retire_all_checkpoints() == 0
    with django_assert_max_num_queries(1):
        assert services.delete_orphaned_files(grace_seconds=-60) == []
    old = make_job(status="completed", step=4, with_checkpoint=True, config={"keep_last": 2})
    for step in (1, 2, 3):
        give_checkpoint(old, step=step, epoch=0)
    assert services.retire_all_checkpoints() == 2
