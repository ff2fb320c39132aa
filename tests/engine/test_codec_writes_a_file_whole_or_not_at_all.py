"""A checkpoint takes its name when it is whole and durable; what goes wrong before leaves nothing behind."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from heimdall import codec, failpoints

torch.set_num_threads(1)
PARTS = {"model": {"w": torch.ones(300_000)}}


@pytest.fixture(autouse=True)
def no_failpoints():
    yield
    failpoints.configure("")


@pytest.mark.parametrize("point", ["checkpoint_half_written", "checkpoint_before_rename"])
def test_a_disk_that_fails_leaves_the_file_before_and_no_other(point: str, tmp_path: Path) -> None:
    before = codec.save(tmp_path / "state", {"n": 1}, {})
    failpoints.configure(f"{point}=raise")
    with pytest.raises(failpoints.FailpointReached):
        codec.save(tmp_path / "state", PARTS, {})
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert codec.verify(tmp_path / "state").digest == before.digest


@pytest.mark.parametrize("point", ["checkpoint_half_written", "checkpoint_before_rename"])
def test_a_kill_while_writing_leaves_no_file_of_that_name(point: str, tmp_path: Path) -> None:
    code = (
        "import sys, torch; from heimdall import codec; "
        "codec.save(sys.argv[1], {'w': torch.ones(300_000)}, {})"
    )
    environment = os.environ | {failpoints.VARIABLE: f"{point}=kill"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "state")], env=environment, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "state").exists()


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk: the write comes back short and then fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            codec.save(tmp_path / "state", PARTS, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert list(tmp_path.iterdir()) == []


def test_the_data_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(f"fsync {_kind(fd)}"), real_fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("rename"), real_replace(*names)))
    codec.save(tmp_path / "state", PARTS, {})
    assert calls == ["fsync file", "rename", "fsync folder"]


def test_small_pieces_and_short_writes_make_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"many": [torch.full((number % 7,), float(number)) for number in range(1200)], **PARTS}
    whole = codec.save(tmp_path / "whole", parts, {})
    real_writev, sizes = os.writev, []

    def short_writev(fd: int, buffers: list[memoryview]) -> int:
        sizes.append(sum(buffer.nbytes for buffer in buffers))
        return real_writev(fd, [buffers[0][: max(1, buffers[0].nbytes // 2)]])

    monkeypatch.setattr(os, "writev", short_writev)
    monkeypatch.setattr(codec.writing, "CHUNK_BYTES", 100_000)
    assert codec.save(tmp_path / "pieces", parts, {}).header_sha256 == whole.header_sha256
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
    assert max(sizes) < 200_000


@pytest.mark.skipif(sys.platform != "linux", reason="sync_file_range is Linux's")
def test_the_disk_begins_before_everything_is_hashed_and_needs_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    real = codec.writing._sync_file_range
    monkeypatch.setattr(codec.writing, "_sync_file_range", lambda *of: begun.append(real(*of)))
    told = codec.save(tmp_path / "state", {"w": torch.ones(3 * 2**20)}, {})
    assert len(begun) > 3
    assert set(begun) == {0}
    monkeypatch.setattr(codec.writing, "_sync_file_range", None)
    assert codec.save(tmp_path / "state", {"w": torch.ones(3 * 2**20)}, {}) == told


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux has each thread a priority")
@pytest.mark.parametrize("gently", [False, True])
def test_hashing_beside_a_training_gives_way_to_it(
    gently: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    real = codec.writing._sha256_of_each

    def look(buffers):
        thread = threading.current_thread()
        found[thread] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return real(buffers)

    monkeypatch.setattr(codec.writing, "_sha256_of_each", look)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    codec.save(tmp_path / "state", PARTS, {}, gently=gently)
    assert set(found.values()) == {min(19, own + 5) if gently else own}
    assert (threading.current_thread() in found) is not gently
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def _kind(fd: int) -> str:
    return "folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"
