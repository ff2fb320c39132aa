"""Any safetensors tool reads the weights, and the digest can be computed without our code."""

import hashlib
import json
import struct
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from heimdall import codec

torch.set_num_threads(1)


def _saved(folder: Path) -> tuple[Path, codec.Saved, dict]:
    shared = torch.randn(3, 4)
    model = {
        "embed": shared,
        "head": shared,
        "half": torch.randn(5).bfloat16(),
        "flag": torch.tensor(True),
        "wave": torch.randn(2, dtype=torch.complex64),
        "none": torch.zeros(0, 3),
        "byte": torch.ones(3, dtype=torch.int8),
    }
    parts = {"model": model, "progress": {"step": 3}}
    return folder / "a.safetensors", codec.save(folder / "a.safetensors", parts, {"job": 1}), model


def test_the_library_reads_the_weights(tmp_path: Path) -> None:
    path, _, model = _saved(tmp_path)
    read = load_file(path)
    assert set(read) == {f"model/{name}" for name in model} - {"model/head"}
    assert all(torch.equal(tensor, model[name.removeprefix("model/")]) for name, tensor in read.items())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["aliases"]) == {"model/head": "model/embed"}


def test_the_digest_is_what_the_documentation_says(tmp_path: Path) -> None:
    path, saved, _ = _saved(tmp_path)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    metadata = header.pop("__metadata__")
    lines = []
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        sha = hashlib.sha256(data[begin:end]).hexdigest()
        shape = json.dumps(header[name]["shape"], separators=(",", ":"))
        lines.append(f"{json.dumps(name)} {header[name]['dtype']} {shape} {sha}\n")
    texts = ("parts", "aliases")
    lines += [f"{name} {hashlib.sha256(metadata[name].encode()).hexdigest()}\n" for name in texts]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert digest == saved.digest == codec.verify(path).digest == metadata["digest"]
    assert saved.header_sha256 == hashlib.sha256(raw[: 8 + length]).hexdigest()
    assert saved.size == len(raw) == codec.verify(path).size
