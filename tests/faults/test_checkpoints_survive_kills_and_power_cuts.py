"""Killed or cut off at any moment while a checkpoint is written: each file with a name is whole, and what was
reported as stored is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heimdall import codec
from tests.faults.corrupt import damage_many
from tests.faults.powercut import Recorder, crashes
from training.store.file_system import AtomicFileSystemStorage

torch.set_num_threads(1)
ROOT = Path(__file__).parents[2]
NAME = "jobs/3/a1/s4-digest.safetensors"


def kills(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults.kills", *options]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
                          text=True, timeout=200)  # fmt: skip


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_of_fifty_killed_writers_none_leaves_a_torn_file():
    done = kills("--count", "50", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 of them torn" in done.stdout


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_writing_straight_to_the_name_would_tear_files():
    assert kills("--count", "12", "--seed", "1", "--naive").returncode == 1


def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A checkpoint is staged by the trainer and taken into the store by its supervisor."""
    staging = tmp_path / "staging"
    staging.mkdir()
    (tmp_path / "store").mkdir()
    recorder = Recorder(tmp_path, monkeypatch)
    saved = codec.save(staging / "s4", {"model": {"w": torch.arange(600.0)}, "n": 4}, {"step": 4})
    recorder.ops.append(("told", "staged", None))
    AtomicFileSystemStorage(location=tmp_path / "store").take(NAME, Path(saved.path))
    recorder.ops.append(("told", "stored", None))
    return recorder


def broken_promises(recorder: Recorder, folder: Path) -> list[str]:
    """Power is cut behind each operation, and every state of the disk is looked at."""
    staged, stored = str(folder / "staging" / "s4"), str(folder / "store" / NAME)
    place, broken = folder / "found", []
    for length in range(len(recorder.ops) + 1):
        ops = recorder.ops[:length]
        for state in crashes(ops):
            for path, content in state.items():
                if not os.path.basename(path).startswith("."):
                    place.write_bytes(content)
                    try:
                        codec.verify(place)
                    except codec.InvalidCheckpoint as error:
                        broken.append(f"after {length}: {path} is there, and {error}")
            if ("told", "stored", None) in ops and stored not in state:
                broken.append(f"after {length}: what was stored is gone")
            if ("told", "staged", None) in ops and staged not in state and stored not in state:
                broken.append(f"after {length}: what was staged is gone")
    return broken


def test_a_power_cut_at_any_moment_leaves_no_half_file_and_loses_nothing_that_was_reported(
    tmp_path, monkeypatch
):
    recorder = record(tmp_path, monkeypatch)
    kinds = [op[0] for op in recorder.ops]
    assert kinds[0] == "create"
    assert {"write", "sync", "rename", "sync folder", "folder"} <= set(kinds)
    assert broken_promises(recorder, tmp_path) == []


@pytest.mark.parametrize("left_out", ["sync", "sync folder"])
def test_each_kind_of_sync_is_needed(tmp_path, monkeypatch, left_out):
    """The model notices when one is missing: without the file's, half files; without the folders', lost ones."""
    recorder = record(tmp_path, monkeypatch)
    recorder.ops = [op for op in recorder.ops if op[0] != left_out]
    assert broken_promises(recorder, tmp_path)


def test_each_folder_that_is_made_has_to_be_synced(tmp_path, monkeypatch):
    recorder = record(tmp_path, monkeypatch)
    whole = recorder.ops
    for number, op in enumerate(whole):
        if op[0] == "sync folder" and op[1] != str(tmp_path / "staging"):
            recorder.ops = whole[:number] + whole[number + 1 :]
            assert broken_promises(recorder, tmp_path), op


def test_a_thousand_damages_of_a_training_checkpoint_are_noticed(tmp_path):
    noticed, missed = damage_many(1_000, 7, tmp_path)
    assert (noticed.total(), missed) == (1_000, [])


def test_a_store_on_another_disk_takes_a_copy_that_is_as_safe(tmp_path, monkeypatch):
    """Where a rename is not possible the file is copied aside, synced and renamed; the staged one goes last."""
    saved = codec.save(tmp_path / "s4", {"n": 4}, {})
    order, real_replace, real_unlink = [], os.replace, os.unlink

    def rename(source, target, **options):
        raise OSError(18, "Invalid cross-device link")

    def replace(source, target, **options):
        order.append("rename")
        real_replace(source, target)

    def unlink(path, **options):
        if str(path) == saved.path:
            order.append("unlink")
        real_unlink(path)

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "unlink", unlink)
    AtomicFileSystemStorage(location=tmp_path / "store").take(NAME, Path(saved.path))
    assert codec.verify(tmp_path / "store" / NAME).digest == saved.digest
    assert order == ["rename", "unlink"]
