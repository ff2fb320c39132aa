"""Samples in files: shards, the manifest that names and checks them, and reading them back.

A shard holds the samples of one range of indices as a safetensors file. Shards are written once and never
changed; extending a dataset adds shards for the indices that come next.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load, save

from heimdall.files import write_whole
from heimdall.recipes.localization.generator import VERSION, Generator, SampleBlock, empty, fields_of
from heimdall.recipes.localization.random_networks import RandomNetworks, samples_of
from heimdall.recipes.localization.settings import RadioSettings

Arrays = Mapping[str, NDArray]
SampleSource = Generator | RandomNetworks

FORMAT = 1
RECIPE = "rf_dataset"
MANIFEST = "manifest.json"
_REFUSED = "refused_"
SPLITS = ("train", "validation", "test")
_SHARD_NAME = re.compile(r"samples-\d{10}-\d{10}\.safetensors")


class UnreadableDataset(ValueError):
    """The files are not the dataset that the manifest describes, or there is none."""


@dataclass(frozen=True)
class ShardFile:
    """One file: the samples start to stop, made by a generator for a scene (settings and seed)."""

    path: str
    size: int
    sha256: str
    start: int
    stop: int
    scene: str
    refused: dict[str, int]

    @property
    def samples(self) -> int:
        return self.stop - self.start

    def summary(self) -> dict[str, Any]:
        """What an entry of a manifest says beside path, size and digest."""
        refused = {f"{_REFUSED}{reason}": count for reason, count in self.refused.items()}
        own = {"start": self.start, "stop": self.stop, "samples": self.samples, "scene": self.scene}
        return own | refused

    def entry(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256} | self.summary()

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> "ShardFile":
        refused = {name.removeprefix(_REFUSED): n for name, n in entry.items() if name.startswith(_REFUSED)}
        known = ("path", "size", "sha256", "start", "stop", "scene")
        return cls(**{name: entry[name] for name in known}, refused=refused)


@dataclass(frozen=True)
class Manifest:
    settings: RadioSettings
    seed: int
    shards: tuple[ShardFile, ...]

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
        return _sha256("\n".join([scene_of(self.settings, self.seed), *lines]))

    def as_json(self) -> str:
        content = {
            "format": FORMAT,
            "recipe": RECIPE,
            "config": self.settings.as_said() | {"seed": self.seed},
            "fingerprint": self.fingerprint(),
            "shards": [shard.entry() for shard in self.shards],
        }
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Also of a manifest with more in it: the config of a whole job, and more about each shard."""
        try:
            content = json.loads(text)
            if (content["format"], content["recipe"]) != (FORMAT, RECIPE):
                raise UnreadableDataset(
                    f"The dataset is not of the recipe {RECIPE}, or of another format than {FORMAT}."
                )
            config = content["config"]
            settings = RadioSettings.of_file(config)
            shards = sorted(map(ShardFile.from_entry, content["shards"]), key=lambda shard: shard.start)
            manifest = cls(settings, int(config["seed"]), tuple(shards))
            manifest._check()
        except (KeyError, TypeError, AttributeError, ValidationError, json.JSONDecodeError) as error:
            raise UnreadableDataset(
                f"The dataset's manifest cannot be read ({type(error).__name__})."
            ) from error
        return manifest

    def _check(self) -> None:
        scene, expected = scene_of(self.settings, self.seed), 0
        for shard in self.shards:
            if shard.scene != scene:
                raise UnreadableDataset(
                    f"The dataset's file {shard.path} was made with other settings, another seed or by another "
                    f"version of the generator than version {VERSION} here."
                )
            if shard.start != expected or shard.stop <= shard.start:
                raise UnreadableDataset("The shards of the dataset's manifest do not follow on one another.")
            expected = shard.stop


def scene_of(settings: RadioSettings, seed: int) -> str:
    """Names what a sample is a function of, beside its index."""
    content = {"generator": VERSION, "seed": seed, "settings": settings.as_said()}
    return _sha256(json.dumps(content, sort_keys=True, separators=(",", ":")))


def fingerprint_of_settings(settings: RadioSettings, seed: int, samples: int) -> str:
    """Names samples that are made when they are needed: they follow from this."""
    return _sha256(f"{scene_of(settings, seed)}\nsamples {samples}\nmade")


def write_shard(generator: SampleSource, start: int, stop: int, folder: Path) -> ShardFile:
    """Make the samples start to stop and write them so that the file is there as a whole or not at all."""
    return write_block(generator, generator.samples(start, stop), start, folder)


def write_block(generator: SampleSource, block: SampleBlock, start: int, folder: Path) -> ShardFile:
    """Write samples that the generator made, from sample `start` on."""
    stop = start + len(block.arrays["detected"])
    # One entry only: safetensors writes several in an order that changes from call to call, and the digest
    # with it.
    metadata = {"heimdall": f"rf samples {start} to {stop} of seed {generator.seed}"}
    data = save(
        {name: np.ascontiguousarray(values) for name, values in block.arrays.items()}, metadata=metadata
    )
    name = f"samples-{start:010d}-{stop:010d}.safetensors"
    write_whole(folder / name, data)
    scene = scene_of(generator.settings, generator.seed)
    return ShardFile(name, len(data), hashlib.sha256(data).hexdigest(), start, stop, scene, block.refused)


def read_shard(folder: Path, shard: ShardFile) -> dict[str, NDArray]:
    if not _SHARD_NAME.fullmatch(shard.path):
        raise UnreadableDataset("The dataset's manifest names a file that is no shard.")
    try:
        data = (folder / shard.path).read_bytes()
    except FileNotFoundError as error:
        raise UnreadableDataset(f"The dataset's file {shard.path} is missing.") from error
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise UnreadableDataset(f"The dataset's file {shard.path} has changed since it was made.")
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
        raise UnreadableDataset("The folder holds a dataset with other settings or another seed.")
    generator = samples_of(settings, seed)
    for start, stop in ranges(manifest.samples, samples, samples_per_shard):
        shard = write_shard(generator, start, stop, folder)
        manifest = Manifest(settings, seed, (*manifest.shards, shard))
        write_manifest(folder, manifest)
        if on_shard is not None:
            on_shard(manifest)
    return manifest


def ranges(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def samples_in(folder: Path) -> int:
    """How many samples the folder's dataset has; 0 where there is none yet."""
    return read_manifest(folder).samples if (folder / MANIFEST).exists() else 0


def read_manifest(folder: Path) -> Manifest:
    try:
        return Manifest.from_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise UnreadableDataset("There is no dataset: its manifest is missing.") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_whole(folder / MANIFEST, manifest.as_json().encode())


def read(folder: Path, manifest: Manifest, samples: int | None = None) -> dict[str, NDArray]:
    """The first so many samples (or all) as arrays; every file is checked against its digest."""
    count = manifest.samples if samples is None else min(samples, manifest.samples)
    fields = fields_of(manifest.settings)
    arrays = empty(count, manifest.settings.columns, fields)
    for shard in manifest.shards:
        if shard.start < count:
            found = read_shard(folder, shard)
            for name in fields:
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


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _of_kind(found: Mapping[str, NDArray], name: str, shard: ShardFile, part: NDArray) -> NDArray:
    values = found.get(name)
    if (
        values is None
        or values.dtype != part.dtype
        or len(values) != shard.samples
        or values.ndim != part.ndim
    ):
        raise UnreadableDataset(f"The dataset's file {shard.path} lacks {name}, or has it in another form.")
    return values[: len(part)]
