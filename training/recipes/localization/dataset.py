"""Samples in files: shards, the manifest that names and checks them, and reading them back.

A shard holds the samples of one range of indices as a safetensors file. Shards are written once and never
changed; extending a dataset adds shards for the indices that come next.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load, save

from training.recipes.localization.generator import FIELDS, VERSION, Generator, empty
from training.recipes.localization.settings import RadioSettings

Arrays = Mapping[str, NDArray]

FORMAT = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "validation", "test")
_SHARD_NAME = re.compile(r"samples-\d{10}-\d{10}\.safetensors")


class BadDataset(ValueError):
    """The files are not the dataset that the manifest describes, or there is none."""


@dataclass(frozen=True)
class Shard:
    name: str
    start: int
    stop: int
    bytes: int
    sha256: str
    refused: dict[str, int]

    @property
    def samples(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Manifest:
    settings: RadioSettings
    seed: int
    shards: tuple[Shard, ...]

    @property
    def samples(self) -> int:
        return self.shards[-1].stop if self.shards else 0

    @property
    def refused(self) -> dict[str, int]:
        """How many tries the filters refused, by reason."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.refused)
        return dict(total)

    def fingerprint(self, samples: int | None = None) -> str:
        """Names the content of the first so many samples: it stays the same when the dataset is extended."""
        used = [shard for shard in self.shards if samples is None or shard.start < samples]
        wanted = self.samples if samples is None else min(samples, self.samples)
        lines = [f"samples {wanted}", *(f"{shard.start} {shard.stop} {shard.sha256}" for shard in used)]
        return hashlib.sha256("\n".join([_scene(self.settings, self.seed), *lines]).encode()).hexdigest()

    def as_json(self) -> str:
        content = {
            "format": FORMAT,
            "generator": VERSION,
            "seed": self.seed,
            "settings": self.settings.model_dump(mode="json"),
            "samples": self.samples,
            "refused": self.refused,
            "fingerprint": self.fingerprint(),
            "shards": [asdict(shard) for shard in self.shards],
        }
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        try:
            content = json.loads(text)
            if content["format"] != FORMAT or content["generator"] != VERSION:
                raise BadDataset(
                    f"The dataset is of format {content['format']}, generator {content['generator']}; "
                    f"this Heimdall reads format {FORMAT}, generator {VERSION}."
                )
            settings = RadioSettings.model_validate_json(json.dumps(content["settings"]))
            manifest = cls(
                settings, int(content["seed"]), tuple(Shard(**shard) for shard in content["shards"])
            )
            _check_order(manifest.shards)
            if content["fingerprint"] != manifest.fingerprint():
                raise BadDataset("The dataset's manifest does not fit its own fingerprint.")
        except (KeyError, TypeError, ValidationError, json.JSONDecodeError) as error:
            raise BadDataset(f"The dataset's manifest cannot be read ({type(error).__name__}).") from error
        return manifest


def fingerprint_of_settings(settings: RadioSettings, seed: int, samples: int) -> str:
    """Names samples that are made when they are needed: they follow from this."""
    return hashlib.sha256(f"{_scene(settings, seed)}\nsamples {samples}\nmade".encode()).hexdigest()


def write_shard(generator: Generator, start: int, stop: int, folder: Path) -> Shard:
    """Make the samples start to stop and write them so that the file is there as a whole or not at all."""
    block = generator.samples(start, stop)
    # One entry only: safetensors writes several in an order that changes from call to call, and the digest
    # with it.
    metadata = {"heimdall": f"rf samples {start} to {stop} of seed {generator.seed}"}
    data = save(
        {name: np.ascontiguousarray(values) for name, values in block.arrays.items()}, metadata=metadata
    )
    name = f"samples-{start:010d}-{stop:010d}.safetensors"
    _write_durably(folder / name, data)
    return Shard(name, start, stop, len(data), hashlib.sha256(data).hexdigest(), block.refused)


def read_shard(folder: Path, shard: Shard) -> dict[str, NDArray]:
    if not _SHARD_NAME.fullmatch(shard.name):
        raise BadDataset("The dataset's manifest names a file that is no shard.")
    try:
        data = (folder / shard.name).read_bytes()
    except FileNotFoundError as error:
        raise BadDataset(f"The dataset's file {shard.name} is missing.") from error
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise BadDataset(f"The dataset's file {shard.name} has changed since it was made.")
    return load(data)


def generate(
    folder: Path,
    settings: RadioSettings,
    seed: int,
    *,
    samples: int,
    samples_per_shard: int,
    on_shard: Callable[[Manifest], None] | None = None,
) -> Manifest:
    """Make the dataset, or go on after its last finished shard. The manifest is written after each shard."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else Manifest(settings, seed, ())
    if (manifest.settings, manifest.seed) != (settings, seed):
        raise BadDataset("The folder holds a dataset with other settings or another seed.")
    generator = Generator(settings, seed)
    for start, stop in ranges(manifest.samples, samples, samples_per_shard):
        shard = write_shard(generator, start, stop, folder)
        manifest = Manifest(settings, seed, (*manifest.shards, shard))
        write_manifest(folder, manifest)
        if on_shard is not None:
            on_shard(manifest)
    return manifest


def ranges(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def read_manifest(folder: Path) -> Manifest:
    try:
        return Manifest.from_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise BadDataset("There is no dataset: its manifest is missing.") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    _write_durably(folder / MANIFEST, manifest.as_json().encode())


def read(folder: Path, manifest: Manifest, samples: int | None = None) -> dict[str, NDArray]:
    """The first so many samples (or all) as arrays; every file is checked against its digest."""
    count = manifest.samples if samples is None else min(samples, manifest.samples)
    arrays = empty(count, len(manifest.settings.receivers))
    for shard in manifest.shards:
        if shard.start < count:
            found = read_shard(folder, shard)
            for name in FIELDS:
                part = arrays[name][shard.start : shard.stop]
                part[:] = _of_kind(found, name, shard, part)
    return arrays


def split_of(indices: NDArray[np.integer], *, validation: float, test: float) -> NDArray[np.int8]:
    """0 train, 1 validation, 2 test, by a hash of the index: extending a dataset moves no sample to another
    part."""
    share = _mix(np.asarray(indices).astype(np.uint64)).astype(np.float64) * 2.0**-64
    return np.select([share < test, share < test + validation], [2, 1], default=0).astype(np.int8)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit of the index reaches every bit of the
    result."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _scene(settings: RadioSettings, seed: int) -> str:
    content = {"generator": VERSION, "seed": seed, "settings": settings.model_dump(mode="json")}
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _check_order(shards: Iterable[Shard]) -> None:
    expected = 0
    for shard in shards:
        if shard.start != expected or shard.stop <= shard.start:
            raise BadDataset("The shards of the dataset's manifest do not follow on one another.")
        expected = shard.stop


def _of_kind(found: Mapping[str, NDArray], name: str, shard: Shard, part: NDArray) -> NDArray:
    values = found.get(name)
    if (
        values is None
        or values.dtype != part.dtype
        or len(values) != shard.samples
        or values.ndim != part.ndim
    ):
        raise BadDataset(f"The dataset's file {shard.name} lacks {name}, or has it in another form.")
    return values[: len(part)]


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def summary(settings: RadioSettings, arrays: Arrays) -> dict[str, Any]:
    """A few numbers about the samples that a person wants to see."""
    detected = arrays["detected"]
    return {
        "samples": len(detected),
        "receivers": len(settings.receivers),
        "mean_detected": float(detected.sum(axis=1).mean()),
        "median_snr_db": float(np.median(arrays["snr_db"][detected])),
        "median_dilution": float(np.median(arrays["dilution"])),
        "median_bound_m": float(np.median(arrays["bound_m"])),
    }
