"""A folder of TensorBoard as an external job: its scalars by step, each with the time at which it was written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heimdall.client import event_files
from heimdall.client.synchronous.client import Client
from heimdall.client.synchronous.jobs import RemoteJob
from heimdall.errors import InvalidInput

ROWS_AT_ONCE = 500
VALUES_AT_ONCE = 20_000  # of one report: the server takes bodies of a megabyte
MOST_ROWS = 2_000_000
MOST_VALUES = 100  # of one step
MOST_STEPS = 2**53


def import_tensorboard(
    client: Client,
    folder: str | Path,
    *,
    name: str | None = None,
    tags: list[str] | None = None,
    rename: Mapping[str, str] | None = None,
    job: int | None = None,
) -> RemoteJob:
    """A completed external job with the scalars of the event files in this folder.

    rename: what a tag is to be called, such as {"Loss/train": "loss"}: lists show `loss` and `val_loss`. job: goes on
    with one whose import broke off, which takes each step once.
    """
    place = Path(folder)
    rows = rows_of(place, rename or {})
    if job is None:
        body = {
            "job_name": name or place.resolve().name,
            "tags": tags or [],
            "source": f"TensorBoard: {place.name}",
        }
        body["source"] = body["source"][:100]
        job = int(client.server.post("/v1/training/jobs/external", body)["id"])
    for batch in _batches(rows):
        client.server.ask("POST", f"/v1/training/jobs/{job}/metrics", body={"rows": batch})
    client.server.ask("POST", f"/v1/training/jobs/{job}/end", body={"outcome": "completed"})
    return client.job(job)


def rows_of(folder: Path, rename: Mapping[str, str]) -> list[dict[str, Any]]:
    """All files of the folder together, by step; what a later file or a later line says of a step holds."""
    files = event_files.files_of(folder)
    if not files:
        raise InvalidInput(
            {"folder": [f"{folder} holds no event file of TensorBoard ({event_files.PATTERN})."]}
        )
    found: dict[int, dict[str, Any]] = {}
    for path in files:
        for event in event_files.scalars(path):
            if not 0 <= event.step <= MOST_STEPS:
                raise InvalidInput({"folder": [f"{path.name} has a step {event.step}, which is none."]})
            row = found.setdefault(event.step, {"step": event.step, "at": max(event.at, 0.0), "values": {}})
            row["values"].update({rename.get(tag, tag): _json(value) for tag, value in event.values.items()})
            _require_within_bounds(len(found), len(row["values"]), path)
    if not found:
        raise InvalidInput({"folder": [f"{folder} holds no scalars."]})
    base = 1 if 0 in found else 0  # Heimdall counts finished steps, from 1
    return [found[step] | {"step": step + base} for step in sorted(found)]


def _require_within_bounds(rows: int, values: int, path: Path) -> None:
    if rows > MOST_ROWS:
        raise InvalidInput({"folder": [f"{path.name}: more than {MOST_ROWS:,} steps; import fewer."]})
    if values > MOST_VALUES:
        raise InvalidInput({"folder": [f"{path.name}: more than {MOST_VALUES} scalars of one step."]})


def _batches(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    num_values = 0
    for row in rows:
        num_values += len(row["values"])
        if batch and (len(batch) == ROWS_AT_ONCE or num_values > VALUES_AT_ONCE):
            yield batch
            batch, num_values = [], len(row["values"])
        batch.append(row)
    yield batch


def _json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
