"""No cut and no changed bit of a checkpoint goes unnoticed; looking at one costs neither torch nor memory."""

import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heimdall import codec

torch.set_num_threads(1)
DAMAGES = 1000


@pytest.fixture
def good(tmp_path: Path) -> Path:
    parts = {
        "model": {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(5, dtype=torch.int8), "tied": None},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.999)},
        "empty": torch.zeros(0),
    }
    parts["model"]["tied"] = parts["model"]["a"]
    codec.save(tmp_path / "good", parts, {"job": 7, "epoch": 2})
    return tmp_path / "good"


def test_a_thousand_damages_are_noticed(good: Path, tmp_path: Path) -> None:
    whole, damaged = good.read_bytes(), tmp_path / "damaged"
    chance = random.Random(20)
    for number in range(DAMAGES):
        content = _damage(whole, chance, number % 4)
        damaged.write_bytes(content)
        for look in (codec.verify, codec.load):
            with pytest.raises(codec.InvalidCheckpoint):
                look(damaged)


def _damage(whole: bytes, chance: random.Random, kind: int) -> bytes:
    content = bytearray(whole)
    place = chance.randrange(len(whole))
    if kind == 0:
        return whole[:place]
    if kind == 1:
        content[place] ^= 1 << chance.randrange(8)
    elif kind == 2:
        content[place : place + 8] = bytes(byte ^ 0xFF for byte in content[place : place + 8])
    else:
        content[place:place] = content[chance.randrange(len(whole)) :][:8] or b"\0"
    return bytes(content)


def test_every_bit_of_the_header_counts(good: Path, tmp_path: Path) -> None:
    whole, damaged = good.read_bytes(), tmp_path / "damaged"
    (length,) = struct.unpack("<Q", whole[:8])
    for place in range(0, 8 + length):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 7)
        damaged.write_bytes(content)
        with pytest.raises(codec.InvalidCheckpoint):
            codec.verify(damaged)


@pytest.mark.parametrize("length", [0, 1, 2**40, 2**63, 2**64 - 1, codec.MAX_HEADER_BYTES + 1])
def test_a_false_length_of_the_header_costs_no_memory(length: int, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(struct.pack("<Q", length) + b" " * 100)
    with pytest.raises(codec.InvalidCheckpoint):
        codec.verify(tmp_path / "bad")


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"__metadata__":{}}',
        b'{"__metadata__":[]}',
        b"\xff\xfe",
        b'{"a":{"dtype":"F32","shape":[9999999999,9999999999],"data_offsets":[0,0]},"__metadata__":{}}',
        b"9" * 10_000,
    ],
)
def test_a_foreign_header_is_refused(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(struct.pack("<Q", len(header)) + header)
    for look in (codec.verify, codec.read_about, codec.load):
        with pytest.raises(codec.InvalidCheckpoint):
            look(tmp_path / "bad")


def _rewritten(path: Path, old: str, new: str) -> None:
    """A file that someone made by hand, with every digest in its place."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    table = json.loads(raw[8 : 8 + length])
    metadata = table.pop("__metadata__")
    entries = [
        codec.header.TensorPlace(name, item["dtype"], tuple(item["shape"]), *item["data_offsets"])
        for name, item in table.items()
    ]
    texts = {name: metadata[name] for name in ("parts", "aliases", "about")}
    assert old in texts["parts"]
    texts["parts"] = texts["parts"].replace(old, new)
    shas = json.loads(metadata["sha256"])
    header = codec.header.header_text(entries, texts, shas, codec.header.root_digest(entries, shas, texts))
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"v":"model/b"', '"v":"model/z"'),
        ('"v":"model/b"', '"v":"model/b","stride":[9999999999999]'),
        ('"v":"model/b"', '"v":"model/b","stride":[-1]'),
        ('"v":"model/b"', '"v":"model/b","stride":[0]'),
        ('"v":"model/b"', '"v":"model/b","dtype":"complex128"'),
        ('"$":"tuple"', '"$":"posix.system"'),
        ('"$":"tuple"', '"$":"np","dtype":"|O8"'),
        ('"$":"tuple"', '"$":["x"]'),
        ('"$":"tuple"', '"$":"defaultdict","factory":"eval"'),
    ],
)
def test_a_file_made_by_hand_can_do_nothing_but_be_refused(old: str, new: str, good: Path) -> None:
    _rewritten(good, old, new)
    codec.verify(good)
    with pytest.raises(codec.InvalidCheckpoint):
        codec.load(good)


def test_another_good_state_is_not_the_expected_one(good: Path) -> None:
    digest = codec.verify(good).digest
    assert codec.verify(good, digest=digest).about == {"epoch": 2, "job": 7}
    for look in (codec.verify, codec.load):
        with pytest.raises(codec.InvalidCheckpoint, match="not 0000"):
            look(good, digest="0" * 64)


def test_a_file_that_cannot_be_read_is_not_called_bad(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        codec.verify(tmp_path / "nowhere")


def test_looking_needs_no_torch_and_little_memory(tmp_path: Path) -> None:
    codec.save(tmp_path / "big", {"w": torch.zeros(2**25, dtype=torch.uint8)}, {"job": 1})
    code = """
import resource, sys
from heimdall import codec
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
info = codec.verify(sys.argv[1])
assert codec.read_about(sys.argv[1]) == {"job": 1} and info.names == ["w"] and len(info.digest) == 64
assert not {"torch", "numpy"} & set(sys.modules)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert grown < 12_000, grown
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "big")], check=True, timeout=30)
