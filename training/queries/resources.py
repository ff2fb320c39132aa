"""The reads of what a training uses over time."""

from __future__ import annotations

from typing import Any

from training.models import ResourceSample, TrainingJob

MOST_POINTS = 600


def resources_of(job: TrainingJob) -> dict[str, Any]:
    """Columns by time, in seconds since 1970: of many rows the mean of each stretch, so that a long training has no
    more points than a screen has room for. A value that was never measured, such as a GPU's, has no column."""
    rows = list(ResourceSample.objects.filter(job=job).order_by("at", "id"))
    together = max(1, -(-len(rows) // MOST_POINTS))
    parts = [rows[begin : begin + together] for begin in range(0, len(rows), together)]
    columns = {name: [_mean(part, name) for part in parts] for name in ResourceSample.VALUES}
    return {
        "job": job.pk,
        "times": [round(part[-1].at.timestamp(), 3) for part in parts],
        "attempts": [part[-1].attempt for part in parts],
        "values": {name: column for name, column in columns.items() if any(v is not None for v in column)},
    }


def _mean(rows: list[ResourceSample], name: str) -> float | None:
    known = [value for row in rows if (value := getattr(row, name)) is not None]
    return round(sum(known) / len(known), 3) if known else None
