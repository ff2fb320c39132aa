"""kill -9 while checkpoints are written and taken into the store: how many files are torn?

`python -m tests.faults.kills --count 500 --seed 0` starts that many writing processes and kills each at a random
moment. Every file that has a name is then read and checked in full. It exits with 1 if one is not whole. With
`--naive` they write straight to the final name, which shows that the search finds torn files where there are some.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from heimdall import codec
from training.store.file_system import AtomicFileSystemStorage

LONGEST_SECONDS = 0.05  # between the first write and the kill
NUMBERS = 300_000  # in each of three tensors


@dataclass
class Found:
    kills: int = 0
    whole: int = 0
    torn: int = 0
    unfinished: int = 0  # temporary files that a kill left behind: nobody takes them for a checkpoint


def write_for_ever(folder: Path, seed: int, begun: int, naive: bool) -> None:
    """One state after the other, through the two steps of every checkpoint: staged, then taken into the store."""
    store = AtomicFileSystemStorage(location=folder / "store")
    generator = torch.Generator().manual_seed(seed)
    number = 0
    while True:
        parts = {name: torch.rand(NUMBERS, generator=generator) for name in ("model", "optimizer", "average")}
        saved = codec.save(folder / "staging" / f"s{number}", parts, {"step": number})
        name = f"jobs/{seed % 7}/a1/s{seed}-{number}-{saved.digest}"
        if naive:
            write_naively(folder / "store" / name, Path(saved.path).read_bytes(), begun)
        store.take(name, Path(saved.path))
        if number == 0:
            os.write(begun, b".")
        number += 1


def write_naively(path: Path, content: bytes, begun: int) -> None:
    path.parent.mkdir(parents=True)
    os.write(begun, b".")
    while True:
        with open(path, "wb") as file:
            for place in range(0, len(content), 4096):
                file.write(content[place : place + 4096])


def kill_one(folder: Path, seed: int, after: float, naive: bool) -> None:
    """A process that says when its first checkpoint is stored, and the signal that nothing can catch."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write_for_ever(folder, seed, writer, naive)
        finally:
            os._exit(1)
    os.close(writer)
    has_begun = os.read(reader, 1)
    os.close(reader)
    assert has_begun, "the writer failed; see above"
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def look(folder: Path, found: Found) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.name.startswith("."):
            found.unfinished += 1
            continue
        try:
            info = codec.verify(path)
            wanted = path.name.rpartition("-")[2] if "-" in path.name else info.digest
            assert info.digest == wanted
            found.whole += 1
        except (codec.InvalidCheckpoint, AssertionError):
            found.torn += 1


def kill_many(count: int, seed: int, folder: Path, *, naive: bool = False) -> Found:
    chance, found = random.Random(seed), Found()
    for number in range(count):
        place = folder / str(number)
        (place / "staging").mkdir(parents=True)
        kill_one(place, 1000 * seed + number, chance.random() * LONGEST_SECONDS, naive)
        found.kills += 1
        look(place, found)
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--naive", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="heimdall-kills-") as folder:
        # The store is Django's; it asks the settings where other files lie.
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
            "HEIMDALL_DATA_DIR": f"{folder}/data",
        }
        found = kill_many(options.count, options.seed, Path(folder), naive=options.naive)
    print(
        f"seed {options.seed}: {found.kills} writers killed, {found.whole} files with a name, {found.torn} of them "
        f"torn, {found.unfinished} temporary files left behind"
    )
    return 1 if found.torn else 0


if __name__ == "__main__":
    sys.exit(main())
