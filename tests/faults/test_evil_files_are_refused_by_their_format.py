"""Pickles, zip bombs and files that lie about their size: refused by their form, run by nobody, at no cost."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from heimdall import codec
from tests.conftest import give_checkpoint
from training import services
from training.errors import BadCheckpoint, NoGoodCheckpoint
from training.models import Attempt, Checkpoint, TrainingJob, checkpoint_storage
from training.store import checkpoints

torch.set_num_threads(1)
BIG = 400 * 2**20


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, place: Path):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def in_safetensors(header: dict, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def saved_by_torch(trap: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": torch.ones(3), "evil": Evil(trap)}, buffer)
    return buffer.getvalue()


def saved_by_numpy(trap: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil(trap)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def zip_bomb(trap: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr("archive/data.pkl", pickle.dumps(Evil(trap)))
        file.writestr("archive/data/0", bytes(BIG // 8))
    return buffer.getvalue()


def tar_with_a_way_out(trap: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("../../../../" + str(trap).lstrip("/")), io.BytesIO())
    return buffer.getvalue()


def tensor(shape: list, begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


CORPUS: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda trap: pickle.dumps(Evil(trap)),
    "pickle, first protocol": lambda trap: pickle.dumps(Evil(trap), protocol=0),
    "torch.save": saved_by_torch,
    "numpy objects": saved_by_numpy,
    "zip bomb": zip_bomb,
    "gzip bomb": lambda trap: gzip.compress(bytes(BIG // 8)),
    "bzip2 bomb": lambda trap: bz2.compress(bytes(BIG // 8)),
    "tar": tar_with_a_way_out,
    "python": lambda trap: f"import os; os.mkdir({str(trap)!r})".encode(),
    "pickle in a header": lambda trap: in_safetensors({"__metadata__": {"parts": repr(pickle.dumps(Evil(trap)))}}),
    "pickle behind a header": lambda trap: in_safetensors({}, pickle.dumps(Evil(trap))),
    "another tool's safetensors": lambda trap: in_safetensors({"w": tensor([2], 0, 8)}, bytes(8)),
    "a shape of exabytes": lambda trap: in_safetensors({"w": tensor([2**31, 2**31], 0, 8)}, bytes(8)),
    "a negative shape": lambda trap: in_safetensors({"w": tensor([-1, -2], 0, 8)}, bytes(8)),
    "places beyond the end": lambda trap: in_safetensors({"w": tensor([BIG], 0, 4 * BIG)}, bytes(8)),
    "places that overlap": lambda trap: in_safetensors({"a": tensor([2], 0, 8), "b": tensor([2], 0, 8)}, bytes(8)),
    "an unknown type": lambda trap: in_safetensors({"w": tensor([1], 0, 8, "OBJECT")}, bytes(8)),
    "a header of gigabytes": lambda trap: struct.pack("<Q", 2**33) + b"{}",
    "a header that nests": lambda trap: struct.pack("<Q", 2_000_000) + b"[" * 1_000_000 + b"]" * 1_000_000,
    "a number of a million digits": lambda trap: struct.pack("<Q", 1_000_008) + b'{"a":1' + b"0" * 1_000_000 + b" }",
    "nothing": lambda trap: b"",
    "a way out in a name": lambda trap: in_safetensors({"../../etc/passwd": tensor([2], 0, 8)}, bytes(8)),
}  # fmt: skip


@pytest.fixture(params=CORPUS)
def evil(request, tmp_path) -> Path:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(CORPUS[request.param](tmp_path / "sprung"))
    return path


def test_each_is_refused_and_nothing_happens(evil, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for look in (codec.verify, codec.read_about, codec.load):
        with pytest.raises(codec.InvalidCheckpoint):
            look(evil)
    assert not (tmp_path / "sprung").exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # in kilobytes


def test_all_are_refused_where_there_is_little_memory(tmp_path):
    """The web process may look at a file; no file may cost it its life."""
    for number, make in enumerate(CORPUS.values()):
        (tmp_path / f"{number}").write_bytes(make(tmp_path / "sprung"))
    code = """
import resource, sys
from pathlib import Path
from heimdall import codec
used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 if Path("/proc/self/statm").exists() else 0
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
for path in sys.argv[1:]:
    for look in (codec.verify, codec.read_about):
        try:
            look(path)
        except codec.InvalidCheckpoint:
            continue
        raise SystemExit(f"{path} was taken")
"""
    files = [str(tmp_path / str(number)) for number in range(len(CORPUS))]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, timeout=60,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sprung").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["torch.save", "zip bomb", "a header of gigabytes"])
def test_one_in_the_store_is_set_aside_for_the_checkpoint_before(settings, tmp_path, make_job, kind):
    """Even where the row was made to fit: the size is right, no hash says otherwise, and the form is not."""
    settings.STORAGES = settings.STORAGES | {
        "checkpoints": {
            "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
            "OPTIONS": {"location": tmp_path / "store"},
        }
    }
    job = make_job(status="running", with_checkpoint=True, step=2)
    good = Checkpoint.objects.get()
    row = give_checkpoint(job, step=5, epoch=1)
    content = CORPUS[kind](tmp_path / "sprung")
    path = Path(checkpoint_storage().path(row.file.name))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    Checkpoint.objects.filter(pk=row.pk).update(size=len(content), header_sha256="")
    row.refresh_from_db()
    with pytest.raises(BadCheckpoint):
        checkpoints.fetch(row, tmp_path / "scratch")
    attempt = Attempt.objects.get(job=job)
    assert services.quarantine(attempt, row, "refused by its form") == good
    with pytest.raises(NoGoodCheckpoint):
        services.quarantine(attempt, good, "too")
    assert TrainingJob.objects.get(pk=job.pk).latest_checkpoint is None
    assert not (tmp_path / "sprung").exists()
