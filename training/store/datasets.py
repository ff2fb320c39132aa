"""Adapter to the store of datasets: shards go in as they are finished, and come to a trainer as one folder.

A dataset is named by its manifest: the recipe and config that made it, and its shards with their digests in order.
Raises StorageUnavailable where the store cannot be reached, BadDataset where a file is not what was stored.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from heimdall.codec.dtypes import STRUCT_CODES
from heimdall.errors import HeimdallError
from heimdall.files import open_regular
from heimdall.plain_json import with_nulls
from heimdall.trainer.protocol import StagedShard
from training.models import Dataset, Shard, dataset_storage
from training.store.checkpoints import take, unavailable
from training.store.file_system import Check, Store

MANIFEST = "manifest.json"


class BadDataset(HeimdallError):
    """A dataset's file is missing or is not what was stored."""

    code = "bad_dataset"


@dataclass(frozen=True)
class StoredShard:
    """A shard's file that is durable in the store and has no row yet."""

    staged: StagedShard
    name: str


def store(staged: StagedShard, *, dataset: str, job_id: int, attempt: int) -> StoredShard:
    """Take a finished shard's file into the store, under a name that no other attempt uses."""
    entry = staged.entry
    name = f"{dataset}/j{job_id}-a{attempt}/{Path(entry['path']).name}"
    path, check = Path(staged.path), is_file(entry["sha256"])
    with unavailable("store", name, bad=BadDataset):
        take(dataset_storage(), name, path, size=entry["size"], check=check)
    return StoredShard(staged, name)


def is_file(sha256: str) -> Check:
    """Whether a stream has this SHA-256."""
    return lambda file: hashlib.file_digest(file, "sha256").hexdigest() == sha256  # type: ignore[arg-type]


def bring(dataset: Dataset, folder: Path) -> Path:
    """The dataset as a local folder: its manifest and its files, each checked against its digest when it comes.

    A file that is there already stays. Files of a local store are linked, not copied.
    """
    target = folder / dataset.name
    target.mkdir(parents=True, exist_ok=True)
    rows = list(dataset.shards.order_by("id"))
    for row in rows:
        place = target / Path(row.entry["path"]).name
        if not place.exists() or place.stat().st_size != row.size:
            with unavailable("read", row.file_name, bad=BadDataset):
                _copy(row, place)
    aside = _aside(target / MANIFEST)
    aside.write_text(json.dumps(manifest(dataset, rows), indent=1, sort_keys=True))
    aside.replace(target / MANIFEST)
    return target


def manifest(dataset: Dataset, rows: list[Shard]) -> dict[str, Any]:
    """What a reader needs to know of the dataset, whoever made it."""
    return {
        "format": 1,
        "name": dataset.name,
        "recipe": dataset.recipe,
        "config": dataset.config,
        "fingerprint": dataset.fingerprint,
        "shards": [row.entry for row in rows],
    }


def delete_files(names: list[str]) -> None:
    for name in names:
        with unavailable("delete", name):
            dataset_storage().delete(name)


def _copy(row: Shard, place: Path) -> None:
    storage = dataset_storage()
    if not storage.exists(row.file_name):
        raise BadDataset(f"The file {row.file_name} of dataset {row.dataset.name} is missing from the store.")
    aside = _aside(place)
    try:
        try:
            os.link(storage.path(row.file_name), aside)
        except (NotImplementedError, OSError):  # a store elsewhere, or on another file system
            cast(Store, storage).fetch(row.file_name, aside)
        _require_same(row, aside)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)


def _require_same(row: Shard, path: Path) -> None:
    with open_regular(path) as file:
        if path.stat().st_size == row.size and is_file(row.sha256)(file):
            return
    raise BadDataset(f"The file {row.file_name} of dataset {row.dataset.name} has changed since it was made.")


def _aside(place: Path) -> Path:
    """Where it is made. A thread of an attempt that was left may still be at the same."""
    return place.with_name(f".{place.name}.{uuid.uuid4().hex}")


MAX_HEADER_BYTES = 1024 * 1024


def read_samples(dataset: Dataset, start: int, stop: int) -> list[dict[str, Any]]:
    """Samples start to stop as rows, of shards that are safetensors files with one row of each array a sample.

    Reads no more than these rows of the files. Empty for files of another kind.
    """
    rows: list[dict[str, Any]] = []
    first = 0
    for shard in dataset.shards.order_by("id"):
        low, high = max(start - first, 0), min(stop - first, shard.samples)
        if low < high:
            with unavailable("read", shard.file_name, bad=BadDataset):
                found = _rows(shard, low, high)
            rows += [{"index": first + low + number} | row for number, row in enumerate(found)]
        first += shard.samples
        if first >= stop:
            break
    return rows


def _rows(shard: Shard, low: int, high: int) -> list[dict[str, Any]]:
    if not dataset_storage().exists(shard.file_name):
        raise BadDataset(
            f"The file {shard.file_name} of dataset {shard.dataset.name} is missing from the store."
        )
    with dataset_storage().open(shard.file_name, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not shard.file_name.endswith(".safetensors") or length > MAX_HEADER_BYTES:
            return []
        table = json.loads(file.read(length))
        table.pop("__metadata__", None)
        columns = {
            name: _column(file, 8 + length, field, low, high)
            for name, field in table.items()
            if field["dtype"] in STRUCT_CODES and field["shape"][:1] == [shard.samples]
        }
    return [{name: values[number] for name, values in columns.items()} for number in range(high - low)]


def _column(file: IO[bytes], begin: int, field: dict[str, Any], low: int, high: int) -> list[Any]:
    """Rows low to high of one array. Plain struct: importing numpy would start threads in whoever forks later."""
    code, inner = STRUCT_CODES[field["dtype"]], field["shape"][1:]
    width, items = struct.calcsize(f"<{code}") * math.prod(inner), (high - low) * math.prod(inner)
    file.seek(begin + field["data_offsets"][0] + low * width)
    values: list[Any] = list(struct.unpack(f"<{items}{code}", file.read((high - low) * width)))
    if code in "dfe":  # JSON has no NaN; a short decimal is enough to look at
        values = with_nulls([round(value, 6) for value in values])
    for size in reversed(inner):
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return values
