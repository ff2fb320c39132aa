"""A pipe, a device, a socket, a folder or a link in the place of a file is bad at once, and nobody waits for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from heimdall import codec
from heimdall.files import NotRegularFile, open_regular
from tests.support.staged import staged_as
from training import services
from training.errors import BadCheckpoint
from training.models import Attempt, Checkpoint, Dataset, Shard, checkpoint_storage, dataset_storage
from training.runner import attempt
from training.runner.context import AttemptContext
from training.store import checkpoints, datasets

pytestmark = pytest.mark.django_db(transaction=True)
torch.set_num_threads(1)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the name of a socket is short
        server.bind(path.name)


def _link(path: Path) -> None:
    """To a file that would be good."""
    copy = path.with_name("copy")
    copy.write_bytes(CONTENT[0])
    path.symlink_to(copy)


CONTENT: list[bytes] = [b""]
PUT: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a folder": lambda path: path.mkdir(),
    "a link": _link,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings.STAGING_DIR, settings.SCRATCH_DIR = tmp_path / "staging", tmp_path / "scratch"
    backend = "training.store.file_system.AtomicFileSystemStorage"
    stores = {
        name: {"BACKEND": backend, "OPTIONS": {"location": tmp_path / name}}
        for name in ("checkpoints", "datasets")
    }
    settings.STORAGES = settings.STORAGES | stores
    checkpoints.leave_mark("of these tests")


@pytest.fixture
def claimed(alice, node, tmp_path) -> Attempt:
    """The second attempt of a job that crashed with a checkpoint."""
    services.submit(by=alice, job_name="a job", recipe="tiny", config={})
    first = services.claim(node, slot=0, pid=1)
    saved = codec.save(tmp_path / "staged", {"model": torch.ones(9)}, {})
    stored = checkpoints.store(
        staged_as(saved, step=2, epoch=0, kinds=("periodic",)), job_id=first.job_id, attempt=1
    )
    services.record_checkpoint(first, stored)
    services.crash(first, exit_code=-9)
    return services.claim(node, slot=0, pid=1)


def replace(path: Path, how: str) -> None:
    CONTENT[0] = path.read_bytes()
    path.unlink()
    PUT[how](path)


@pytest.mark.parametrize("how", PUT)
def test_in_the_place_of_a_checkpoint_it_is_set_aside_and_the_slot_is_free(how, claimed):
    replace(Path(checkpoint_storage().path(claimed.started_from.file.name)), how)
    attempt.Supervision(AttemptContext(claimed, slot=0)).run()
    claimed.job.refresh_from_db()
    assert (claimed.job.status, claimed.job.error_code) == ("failed", "no_good_checkpoint")
    assert Checkpoint.objects.get().quarantined_at is not None


@pytest.mark.parametrize("how", [how for how in PUT if how != "a link to nothing"])
def test_in_the_place_of_a_staged_file_it_is_refused_and_never_stored(how, tmp_path):
    path = tmp_path / "staged"
    saved = codec.save(path, {"model": torch.ones(9)}, {})
    replace(path, how)
    with pytest.raises(BadCheckpoint, match="no regular file"):
        checkpoints.store(staged_as(saved, step=1, epoch=0, kinds=("pause",)), job_id=1, attempt=1)
    assert list(checkpoints.stored_names()) == []


@pytest.mark.parametrize("how", PUT)
def test_in_the_place_of_a_datasets_shard_the_dataset_is_bad(how, alice, tmp_path):
    dataset = Dataset.objects.create(name="seen", recipe="rf_dataset", owner=alice)
    path = tmp_path / "datasets" / "seen" / "one.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    row = Shard.objects.create(
        dataset=dataset, number=0, samples=1, file="seen/one.safetensors", size=7, sha256="0" * 64,
        entry={"path": "one.safetensors", "size": 7, "sha256": "0" * 64},
    )  # fmt: skip
    assert dataset_storage().exists(row.file.name)
    replace(path, how)
    with pytest.raises(datasets.BadDataset):
        datasets.bring(dataset, tmp_path / "scratch")
    with pytest.raises(datasets.BadDataset):
        datasets.read_samples(dataset, 0, 1)


def test_a_device_is_no_file():
    with pytest.raises(NotRegularFile):
        open_regular("/dev/zero")


def test_a_file_is_looked_into_by_hand_through_a_link(tmp_path):
    codec.save(tmp_path / "one", {"model": torch.ones(9)}, {})
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert checkpoints.look_into(tmp_path / "link").digest
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadCheckpoint, match="no regular file"):
        checkpoints.look_into(tmp_path / "pipe")
