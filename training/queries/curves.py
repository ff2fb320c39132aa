"""The reads of curves: values by step, down-sampled in the database to the points that a screen has room for.

Each point stands for so many steps in a row and says their lowest and highest value beside the mean, so that a spike
is never lost. A range of few steps is folded from its rows by one query; a long one from the blocks that were folded
when their last step came in (services/metrics.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Avg, BigIntegerField, F, FloatField, Func, Max, Min, QuerySet, Value
from django.db.models.expressions import CombinedExpression
from django.db.models.fields.json import KeyTransform

from training import policy
from training.models import Checkpoint, Metric, MetricBlock, TrainingJob
from training.queries.status_intervals import marks_of

POINTS, FEWEST_POINTS, MOST_POINTS = 800, 10, 5_000
MOST_METRICS = 8
MOST_FORKS = 20
STEP, EPOCH = "step", "epoch"
_COLUMNS = {STEP: "values", EPOCH: "epoch_values"}
_PLACES = {"step", "epoch"}


@dataclass
class Series:
    """One metric as columns. Point i stands for the steps after steps[i - 1] up to steps[i]."""

    metric: str
    per: str
    width: int
    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    means: list[float | None] = field(default_factory=list)
    lows: list[float | None] = field(default_factory=list)
    highs: list[float | None] = field(default_factory=list)

    def add(self, step: int, at: datetime, mean: float | None, low: float | None, high: float | None) -> None:
        self.steps.append(step)
        self.times.append(round(at.timestamp(), 3))
        self.means.append(mean)
        self.lows.append(low)
        self.highs.append(high)


def curve(
    job: TrainingJob,
    *,
    metrics: list[str] | None = None,
    first: int | None = None,
    last: int | None = None,
    points: int = POINTS,
    user: Any = None,
) -> dict[str, Any]:
    """The curves of some metrics between two steps (both included), and what there is to choose from.

    A metric that the job does not have gives an empty series: it may come yet. Forks are those that the user may see.
    """
    known = metrics_of(job)
    per = {one["name"]: one["per"] for one in known}
    begin, end = _bounds(job)
    first, last = max(first or begin, begin), min(end if last is None else last, end)
    width = max(1, -(-(last - first + 1) // points))
    wanted = list(dict.fromkeys(metrics or default_metrics(known)))[:MOST_METRICS]
    return {
        "job": job.pk,
        "from": first,
        "to": last,
        "first_step": begin,
        "last_step": end,
        "steps_per_epoch": _steps_per_epoch(job),
        "metrics": known,
        "series": [vars(_series(job, name, per.get(name, ""), first, last, width)) for name in wanted],
        "marks": [mark for mark in marks_of(job) if first <= mark["step"] <= last],
        "checkpoints": _checkpoint_steps(job, first, last),
        "best_step": _best_step(job),
        "forks": _forks(job, user),
    }


def metrics_of(job: TrainingJob) -> list[dict[str, str]]:
    """What can be drawn, by name, as the first and the newest rows have it: values of steps, then of epochs."""
    found: dict[str, str] = {}
    rows = Metric.objects.filter(job=job)
    closed = rows.filter(epoch_values__isnull=False)
    for per, column, some in ((STEP, "values", rows), (EPOCH, "epoch_values", closed)):
        for order in ("step", "-step"):
            values = some.order_by(order).values_list(column, flat=True).first() or {}
            for name, value in values.items():
                if _can_be_drawn(name, value):
                    found.setdefault(name, per)
    return [{"name": name, "per": per} for name, per in found.items()]


def default_metrics(known: list[dict[str, str]]) -> list[str]:
    """The loss of each step and that of each validation, where there are such."""
    names = [one["name"] for one in known]
    return [name for name in ("loss", "val_loss") if name in names] or names[:1]


def _series(job: TrainingJob, metric: str, per: str, first: int, last: int, width: int) -> Series:
    series = Series(metric, per, width)
    if not per or last < first:
        return series
    if per == STEP and width >= MetricBlock.SPAN and _has_all_blocks(job, first, last):
        _from_blocks(series, job, first, last)
    else:
        _from_rows(series, job, first, last)
    return series


def _from_rows(series: Series, job: TrainingJob, first: int, last: int) -> None:
    rows = Metric.objects.filter(job=job, step__gte=first, step__lte=last)
    if series.per == EPOCH:
        rows = rows.filter(epoch_values__isnull=False)
    value = _Number(_COLUMNS[series.per], series.metric)
    for step, at, mean, low, high in _folded(rows, value, first, series.width):
        series.add(step, at, mean, low, high)


def _folded(rows: QuerySet[Metric], value: _Number, first: int, width: int) -> Iterator[tuple]:
    """(last step, its time, mean, lowest, highest) of each bucket of so many steps. One query."""
    if width == 1:
        for step, at, number in rows.order_by("step").values_list("step", "created_at", value):
            yield step, at, number, number, number
        return
    bucket = CombinedExpression(F("step") - Value(first), "/", Value(width), output_field=BigIntegerField())
    folded = rows.annotate(bucket=bucket).order_by("bucket").values("bucket")
    yield from folded.annotate(
        last=Max("step"), at=Max("created_at"), mean=Avg(value), low=Min(value), high=Max(value)
    ).values_list("last", "at", "mean", "low", "high")


def _from_blocks(series: Series, job: TrainingJob, first: int, last: int) -> None:
    """Whole blocks, several to a point; the rows after the last whole one make a point of their own."""
    span = MetricBlock.SPAN
    together = -(-series.width // span)
    series.width = together * span
    begin = (first - 1) // span
    blocks = MetricBlock.objects.filter(job=job, number__gte=begin, last_step__lte=last).order_by("number")
    read = blocks.values_list("number", "last_step", "created_at", KeyTransform(series.metric, "values"))
    point: list[tuple] = []
    for row in read:
        if point and (row[0] - begin) // together != (point[0][0] - begin) // together:
            series.add(*_merged(point))
            point = []
        point.append(row)
    if point:
        series.add(*_merged(point))
    rest = Metric.objects.filter(job=job, step__gt=series.steps[-1] if series.steps else first - 1)
    value = _Number("values", series.metric)
    for row in _folded(rest.filter(step__lte=last), value, first, last - first + 1):
        series.add(*row)


def _merged(point: list[tuple]) -> tuple:
    _, step, at, _ = point[-1]
    values = [found for *_, found in point if found and found[3]]
    if not values:
        return step, at, None, None, None
    total, count = sum(found[2] for found in values), sum(found[3] for found in values)
    return step, at, total / count, min(found[0] for found in values), max(found[1] for found in values)


def _has_all_blocks(job: TrainingJob, first: int, last: int) -> bool:
    """Whether each whole block of the range is there: those of jobs that ran before there were blocks are not."""
    span = MetricBlock.SPAN
    begin, end = (first - 1) // span, last // span
    blocks = MetricBlock.objects.filter(job=job, number__gte=begin, number__lt=end)
    return blocks.count() == end - begin


def _bounds(job: TrainingJob) -> tuple[int, int]:
    """The first and the last step that has a row. A fork's first one is not step 1."""
    found = Metric.objects.filter(job=job)
    first = found.order_by("step").values_list("step", flat=True).first()
    last = found.order_by("-step").values_list("step", flat=True).first()
    return (first, last) if first is not None and last is not None else (1, 0)


def _steps_per_epoch(job: TrainingJob) -> float | None:
    return job.total_steps / job.total_epochs if job.total_steps and job.total_epochs else None


def _checkpoint_steps(job: TrainingJob, first: int, last: int) -> list[int]:
    kept = Checkpoint.objects.filter(
        job=job, generation=job.generation, quarantined_at=None, step__gte=first, step__lte=last
    )
    return sorted(set(kept.values_list("step", flat=True)))


def _best_step(job: TrainingJob) -> int | None:
    """The last step of the epoch with the best validation."""
    if job.best_epoch is None:
        return None
    closed = Metric.objects.filter(job=job, epoch=job.best_epoch, epoch_values__isnull=False)
    return closed.order_by("step").values_list("step", flat=True).last()


def _forks(job: TrainingJob, user: Any) -> list[dict[str, int]]:
    """The newest forks of the job, and the step where each begins."""
    if user is None:
        return []
    forks = policy.visible_jobs(user).filter(parent=job).exclude(origin=None).order_by("-id")
    rows = forks.values_list("pk", "origin")[:MOST_FORKS]
    return [{"job": pk, "step": origin["step"]} for pk, origin in rows if origin]


def _can_be_drawn(name: str, value: Any) -> bool:
    """A number, or null for one that was not finite. A name with quotes cannot stand in a path of SQLite's JSON."""
    is_number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return is_number and name not in _PLACES and not {'"', "\\"} & set(name)


class _Number(Func):
    """The number under a name of a JSON column; NULL where there is none, or null."""

    def __init__(self, column: str, name: str):
        self.name = name
        super().__init__(F(column), output_field=FloatField())

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        column, params = compiler.compile(self.source_expressions[0])
        return f"JSON_EXTRACT({column}, %s)", [*params, f'$."{self.name}"']

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        column, params = compiler.compile(self.source_expressions[0])
        return f"({column} ->> %s)::double precision", [*params, self.name]
