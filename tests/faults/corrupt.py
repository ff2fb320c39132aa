"""Damaged checkpoints, each of which must be noticed: `python -m tests.faults.corrupt --count 100000 --seed 0`.

Cut, lengthened, bits flipped, stretches overwritten, swapped, zeroed or taken from another checkpoint; in the header
and in the tensors. It exits with 1 if one was taken for good.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from heimdall import codec


def make(path: Path, seed: int) -> bytes:
    """A checkpoint of a small training, with all that one has: a model, its optimizer, a schedule, generators."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 6)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    parts = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    codec.save(
        path, parts | {"rng": torch.get_rng_state(), "empty": torch.zeros(0)}, {"job": seed, "step": 1}
    )
    return path.read_bytes()


def cut(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    return whole[: chance.randrange(len(whole))]


def lengthen(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    return whole + chance.randbytes(chance.randint(1, 64))


def flip(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def overwrite(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    place, length = chance.randrange(len(whole)), chance.randint(1, 512)
    return whole[:place] + chance.randbytes(min(length, len(whole) - place)) + whole[place + length :]


def zero(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    """What a file system may leave of a write that was never synced."""
    place = chance.randrange(len(whole)) // 512 * 512
    length = min(512 * chance.randint(1, 4), len(whole) - place)
    return whole[:place] + bytes(length) + whole[place + length :]


def swap(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    one, two = sorted(chance.sample(range(len(whole) // 64), 2))
    a, b = whole[64 * one : 64 * one + 64], whole[64 * two : 64 * two + 64]
    return whole[: 64 * one] + b + whole[64 * one + 64 : 64 * two] + a + whole[64 * two + 64 :]


def insert(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(whole))
    return whole[:place] + chance.randbytes(chance.randint(1, 8)) + whole[place:]


def splice(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    """The beginning of one good checkpoint and the end of another of the same length."""
    place = chance.randrange(1, len(whole))
    return whole[:place] + other[place:]


DAMAGES: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (
    cut, lengthen, flip, overwrite, zero, swap, insert, splice,
)  # fmt: skip


def damage_many(count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """How many of each kind were noticed, and what was not."""
    chance, noticed, missed = random.Random(seed), Counter[str](), []
    whole, other = make(folder / "one", 1), make(folder / "two", 2)
    place = folder / "damaged"
    while noticed.total() + len(missed) < count:
        damage = DAMAGES[(noticed.total() + len(missed)) % len(DAMAGES)]
        content = damage(whole, other, chance)
        if content in (whole, other):
            continue  # nothing was changed
        place.write_bytes(content)
        look = codec.verify if noticed.total() % 10 else codec.load
        try:
            look(place)
        except codec.InvalidCheckpoint:
            noticed[damage.__name__] += 1
        else:
            missed.append(f"{damage.__name__} number {noticed.total()} of seed {seed}")
    return noticed, missed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="heimdall-corrupt-") as folder:
        noticed, missed = damage_many(options.count, options.seed, Path(folder))
    print(
        f"seed {options.seed}: {noticed.total()} of {noticed.total() + len(missed)} damaged checkpoints noticed"
    )
    print("  " + ", ".join(f"{count} {kind}" for kind, count in sorted(noticed.items())))
    print("\n".join(missed[:20]) or f"  none missed, {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
