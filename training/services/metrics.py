"""The rows of metrics, and blocks of them folded together.

A block is folded once, when its last step is there, and goes when the job is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from heimdall.trainer.protocol import EpochDone
from training.models import (
    Metric,
    MetricBlock,
    TrainingJob,
)
from training.services.column_values import note_values
from training.services.storable import finite

SPAN = MetricBlock.SPAN
MOST_ROWS = 20 * SPAN  # that are folded at once


def add_metrics(
    job: TrainingJob,
    steps: Sequence[dict[str, Any]],
    epochs: Sequence[EpochDone],
    times: Sequence[datetime] = (),
) -> None:
    """times: when each step was made, where that is not now."""
    rows = [
        Metric(
            job=job,
            step=row["step"],
            epoch=row["epoch"],
            attempt=job.attempt,
            values=finite({name: value for name, value in row.items() if name not in {"step", "epoch"}}),
        )
        for row in steps
    ]
    for row, at in zip(rows, times, strict=False):
        row.created_at = at
    # A row that is there already came with a commit whose answer was lost.
    Metric.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    if steps:
        fold_metrics(job, steps[0]["step"], steps[-1]["step"])
    for epoch in epochs:
        Metric.objects.filter(job=job, step=epoch.step).update(epoch_values=finite(epoch.values))
    note_values(job, [*(row.values for row in rows), *(finite(epoch.values) for epoch in epochs)])


def fold_metrics(job: TrainingJob, first: int, last: int) -> None:
    """Fold what is whole and not folded yet. No query where none of the blocks ends with the steps first to last.

    A log may leave out steps, and whole blocks of them: those are none.
    """
    end = last // SPAN
    if (first - 1) // SPAN >= end:
        return
    newest = job.metric_blocks.order_by("-number").values_list("number", flat=True).first()
    begin = 0 if newest is None else newest + 1
    found = Metric.objects.filter(job_id=job.pk, step__gt=begin * SPAN, step__lte=end * SPAN).order_by("step")
    rows = list(found.values_list("step", "values", "created_at")[:MOST_ROWS])
    blocks = [_block(job, number, list(some)) for number, some in groupby(rows, _number_of)]
    # Of so many rows the last block may lack some; the next one that is whole brings it along.
    MetricBlock.objects.bulk_create(blocks[:-1] if len(rows) == MOST_ROWS else blocks, ignore_conflicts=True)


def forget_blocks(job: TrainingJob, *, after: int) -> None:
    """The steps after this one are no longer, nor are the blocks that hold any of them."""
    MetricBlock.objects.filter(job_id=job.pk, last_step__gt=after).delete()


def _number_of(row: tuple[int, Any, Any]) -> int:
    return (row[0] - 1) // SPAN


def _block(job: TrainingJob, number: int, rows: list[tuple[int, dict[str, Any], datetime]]) -> MetricBlock:
    values: dict[str, list[Any]] = {}
    for _, row, _ in rows:
        for name, value in row.items():
            if isinstance(value, int | float):
                _take_in(values, name, value)
    step, _, created_at = rows[-1]
    return MetricBlock(job=job, number=number, last_step=step, values=values, created_at=created_at)


def _take_in(values: dict[str, list[Any]], name: str, value: float) -> None:
    known = values.get(name)
    if known is None:
        values[name] = [value, value, value, 1]
        return
    known[0], known[1] = min(known[0], value), max(known[1], value)
    known[2], known[3] = known[2] + value, known[3] + 1
