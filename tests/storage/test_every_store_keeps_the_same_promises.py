"""One suite for every store: a folder, moto's S3 server, and rclone's, which shares no line with moto's."""

import hashlib
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig
from django.core.exceptions import SuspiciousOperation
from django.utils import timezone

from heimdall import codec
from heimdall.trainer.protocol import StagedShard
from tests.storage.conftest import content_of, put, record
from tests.support.running import PATIENCE
from tests.support.staged import staged
from training import services
from training.errors import BadCheckpoint, StorageUnavailable
from training.models import Attempt, Dataset, dataset_storage
from training.store import checkpoints, datasets, s3

pytestmark = [pytest.mark.django_db]


def test_a_staged_file_is_taken_over_and_comes_back_verified(store, attempt, tmp_path):
    message = staged(tmp_path / "staging")
    before = timezone.now() - timedelta(seconds=5)
    stored = checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
    assert not os.path.exists(message.path)
    row = services.record_checkpoint(attempt, stored)
    copy = checkpoints.fetch(row, tmp_path / "scratch")
    assert codec.verify(copy).digest == row.digest
    assert [*(tmp_path / "scratch").iterdir()] == [copy]
    assert store.exists(stored.name)
    assert store.size(stored.name) == message.size == row.size
    assert before < store.get_modified_time(stored.name) < timezone.now() + timedelta(seconds=5)
    assert list(checkpoints.stored_names()) == [stored.name]


def test_what_lies_under_a_name_is_never_replaced(store, attempt, tmp_path):
    message = staged(tmp_path / "staging")
    names = checkpoints.storage_names(
        attempt.job_id, attempt.number, 4, message.digest, message.header_sha256
    )
    first, second = next(names), next(names)
    put(store, first, b"what somebody else has left")
    stored = checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
    assert stored.name == second
    assert content_of(store, first) == b"what somebody else has left"
    row = services.record_checkpoint(attempt, stored)
    assert codec.verify(checkpoints.fetch(row, tmp_path / "scratch")).digest == row.digest


def test_a_file_that_arrived_in_an_earlier_try_is_not_sent_again(store, attempt, tmp_path, monkeypatch):
    """As after a kill between the upload and the row."""
    message = staged(tmp_path / "staging")
    content = Path(message.path).read_bytes()
    stored = checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
    Path(message.path).write_bytes(content)
    monkeypatch.setattr(type(store), "take", None)
    assert checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number) == stored
    assert not os.path.exists(message.path)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "other"])
def test_a_damaged_file_is_noticed_when_it_is_fetched(store, attempt, tmp_path, damage):
    checkpoints.leave_mark("of these tests")
    row = record(attempt, tmp_path / "staging")
    content = bytearray(content_of(store, row.file.name))
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        del content[-1:]
    elif damage == "other":
        content = bytearray(Path(staged(tmp_path / "staging", value=2.0).path).read_bytes())
    put(store, row.file.name, None if damage == "gone" else b"" if damage == "empty" else bytes(content))
    with pytest.raises(BadCheckpoint):
        checkpoints.fetch(row, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_large_file_comes_back_as_it_was(store, attempt, tmp_path, monkeypatch):
    """In parts, where the store takes parts."""
    parts = TransferConfig(multipart_threshold=5 * s3.MIB, multipart_chunksize=5 * s3.MIB, max_concurrency=3)
    monkeypatch.setattr(s3, "TRANSFER", parts)
    message = staged(tmp_path / "staging", numbers=3 * 10**6)
    sent = hashlib.sha256(Path(message.path).read_bytes()).digest()
    stored = checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
    row = services.record_checkpoint(attempt, stored)
    assert row.size > 12 * 10**6
    copy = checkpoints.fetch(row, tmp_path / "scratch")
    assert hashlib.sha256(copy.read_bytes()).digest() == sent


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "jobs/../../x", "..", "jobs/1/../../../x"])
def test_no_name_leads_out_of_the_store(store, tmp_path, name):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    for ask in (store.exists, store.size, store.delete, lambda name: store.take(name, path)):
        with pytest.raises(SuspiciousOperation):
            ask(name)


@pytest.mark.parametrize("name", ["a b+c%2e&d=e?f#g", "~root", "-rf", "$(id)", "caf\u00e9", "x" * 200])
def test_an_odd_name_is_only_a_name(store, tmp_path, name):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    full = f"jobs/9/a1/{name}"
    store.take(full, path)
    assert store.exists(full)
    assert content_of(store, full) == b"content"
    assert list(store.names("jobs/9")) == [full]
    store.delete(full)
    assert not store.exists(full)


def test_a_file_can_be_read_from_anywhere(store):
    content = bytes(range(256)) * 4000
    put(store, "jobs/1/a1/file", content)
    with store.open("jobs/1/a1/file", "rb") as file:
        file.seek(700_001)
        assert file.read(10) == content[700_001:700_011]
        file.seek(5)
        assert file.read() == content[5:]
        assert file.read(1) == b""


def test_a_file_that_is_not_there_is_missing_and_deleting_it_is_no_error(store, tmp_path):
    store.delete("jobs/1/a1/nothing")
    assert not store.exists("jobs/1/a1/nothing")
    for ask in (store.size, store.open, lambda name: store.fetch(name, tmp_path / "copy")):
        with pytest.raises(FileNotFoundError):
            ask("jobs/1/a1/nothing")
    assert list(store.names("jobs")) == []
    assert not (tmp_path / "copy").exists()


def test_the_sweep_finds_what_no_row_names_and_spares_the_young(store, attempt, tmp_path):
    row = record(attempt, tmp_path / "staging")
    put(store, "jobs/9/a1/orphan", b"x")
    put(store, "jobs/10/a1/deeper/orphan", b"x")
    assert services.delete_orphaned_files(grace_seconds=3600) == []
    deadline = time.monotonic() + 10 * PATIENCE
    deleted: set[str] = set()
    while len(deleted) < 2 and time.monotonic() < deadline:  # S3 tells ages in whole seconds
        deleted |= set(services.delete_orphaned_files(grace_seconds=0))
    assert deleted == {"jobs/9/a1/orphan", "jobs/10/a1/deeper/orphan"}
    assert list(checkpoints.stored_names()) == [row.file.name]


def test_deleting_a_job_deletes_its_files(
    store, attempt, alice, tmp_path, django_capture_on_commit_callbacks
):
    record(attempt, tmp_path / "staging")
    services.complete(attempt, None)
    with django_capture_on_commit_callbacks(execute=True):
        services.delete(Attempt.objects.get(pk=attempt.pk).job, by=alice)
    assert list(checkpoints.stored_names()) == []


def test_a_store_has_one_mark_and_another_one_is_refused(store):
    services.join_installation()
    mark = checkpoints.mark()
    assert len(mark) == 32
    services.join_installation()
    assert checkpoints.mark() == mark
    put(store, checkpoints.MARK, b"f" * 32)
    with pytest.raises(services.NotOurs, match="HEIMDALL_S3"):
        services.join_installation()


def test_a_store_that_lost_everything_is_refused(store, attempt, tmp_path):
    services.join_installation()
    record(attempt, tmp_path / "staging")
    put(store, checkpoints.MARK, None)  # an empty disk that was mounted there, a new bucket of the same name
    with pytest.raises(services.NotOurs, match="its mark is missing"):
        services.join_installation()


def test_a_shard_goes_in_comes_back_and_is_checked(store, alice, tmp_path, node):
    config = {"samples": 30, "samples_per_shard": 10}
    services.submit(by=alice, job_name="some data", recipe="shards", config=config)
    attempt = services.claim(node, slot=0, pid=1)
    path = tmp_path / "shard-0"
    path.write_bytes(b"the shard")
    sha256 = hashlib.sha256(b"the shard").hexdigest()
    entry = {"shard": 0, "path": path.name, "size": 9, "sha256": sha256, "samples": 10}
    name = attempt.job.dataset.name
    staged_shard = StagedShard(str(path), entry, done=1, total=3)
    stored = datasets.store(staged_shard, dataset=name, job_id=attempt.job_id, attempt=attempt.number)
    services.record_shard(attempt, stored)
    dataset = Dataset.objects.get(name=name)
    folder = datasets.bring(dataset, tmp_path / "brought")
    assert (folder / "shard-0").read_bytes() == b"the shard"
    (folder / "shard-0").unlink()
    put(dataset_storage(), stored.name, b"The shard")
    with pytest.raises(datasets.BadDataset):
        datasets.bring(dataset, tmp_path / "brought")


@pytest.mark.parametrize(
    "damage", ["zeros", "a bit of the header", "a bit of the last tensor", "another state"]
)
def test_what_arrives_damaged_is_removed_and_sent_again(s3_store, attempt, tmp_path, monkeypatch, damage):
    """A server that keeps something else than it was sent. (A folder takes files by their names, whole.)"""
    kept = bytearray(Path(staged(tmp_path / "other", value=2.0).path).read_bytes())
    message = staged(tmp_path / "staging")
    if damage != "another state":
        kept = bytearray(Path(message.path).read_bytes())
    if damage == "a bit of the header":
        kept[100] ^= 1
    if damage == "a bit of the last tensor":
        kept[-1] ^= 1
    damaged = bytes(len(kept)) if damage == "zeros" else bytes(kept)
    assert len(damaged) == message.size
    take = type(s3_store).take

    def take_badly(self, name, path):
        take(self, name, path)
        put(self, name, damaged)

    monkeypatch.setattr(type(s3_store), "take", take_badly)
    with pytest.raises(StorageUnavailable, match="otherwise than it was sent"):
        checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
    assert list(checkpoints.stored_names()) == []
    assert os.path.exists(message.path)
    monkeypatch.setattr(type(s3_store), "take", take)
    stored = checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
    assert s3_store.size(stored.name) == message.size


def test_the_bucket_of_another_database_is_refused(s3_store):
    put(s3_store, checkpoints.MARK, b"f" * 32)
    with pytest.raises(
        services.NotOurs, match="a bucket, or a HEIMDALL_S3_PREFIX, that no other one has used"
    ):
        services.join_installation()
    assert content_of(s3_store, checkpoints.MARK) == b"f" * 32
