"""The rows of metrics, and blocks of them folded together.

A block is folded once, when its last step is there, and goes when the job is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heimdall.trainer.protocol import EpochDone
from training.models import (
    Metric,
    MetricBlock,
    TrainingJob,
)
from training.services.storable import finite

SPAN = MetricBlock.SPAN


def add_metrics(job: TrainingJob, steps: Sequence[dict[str, Any]], epochs: Sequence[EpochDone]) -> None:
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
    # A row that is there already came with a commit whose answer was lost.
    Metric.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    if steps:
        fold_metrics(job, steps[0]["step"], steps[-1]["step"])
    for epoch in epochs:
        Metric.objects.filter(job=job, step=epoch.step).update(epoch_values=finite(epoch.values))


def fold_metrics(job: TrainingJob, first: int, last: int) -> None:
    """Fold the blocks whose last step is one of first to last. No query where there is none."""
    numbers = range((first - 1) // SPAN, last // SPAN)
    MetricBlock.objects.bulk_create([_block(job, number) for number in numbers], ignore_conflicts=True)


def forget_blocks(job: TrainingJob, *, after: int) -> None:
    """The steps after this one are no longer, nor are the blocks that hold any of them."""
    MetricBlock.objects.filter(job_id=job.pk, last_step__gt=after).delete()


def _block(job: TrainingJob, number: int) -> MetricBlock:
    rows = Metric.objects.filter(job_id=job.pk, step__gt=number * SPAN, step__lte=(number + 1) * SPAN)
    found = list(rows.order_by("step").values_list("step", "values", "created_at"))
    values: dict[str, list[Any]] = {}
    for _, row, _ in found:
        for name, value in row.items():
            if isinstance(value, int | float):
                _take_in(values, name, value)
    step, _, created_at = found[-1]
    return MetricBlock(job=job, number=number, last_step=step, values=values, created_at=created_at)


def _take_in(values: dict[str, list[Any]], name: str, value: float) -> None:
    known = values.get(name)
    if known is None:
        values[name] = [value, value, value, 1]
        return
    known[0], known[1] = min(known[0], value), max(known[1], value)
    known[2], known[3] = known[2] + value, known[3] + 1
