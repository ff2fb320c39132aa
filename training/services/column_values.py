"""The rows by which jobs are filtered and sorted by their configs and by what they measured (models/values.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from training.models import ConfigValue, Metric, MetricValue, TrainingJob
from training.models.values import scalars

_TABLE = MetricValue._meta.db_table
_SMALLER, _LARGER = (
    f"CASE WHEN {_TABLE}.{name} IS NULL OR excluded.{name} {sign} {_TABLE}.{name}"
    f" THEN excluded.{name} ELSE {_TABLE}.{name} END"
    for name, sign in (("lowest", "<"), ("highest", ">"))
)
# Columns of VALUES have these names in both databases. A job that makes up a name for each step fills no table.
_UPSERT = f"""
INSERT INTO {_TABLE} (job_id, name, newest, lowest, highest)
SELECT %s, column1, column2, column3, column4 FROM (VALUES {{rows}}) AS given
WHERE (SELECT count(*) FROM {_TABLE} WHERE job_id = %s) < {MetricValue.MOST_NAMES}
   OR column1 IN (SELECT name FROM {_TABLE} WHERE job_id = %s)
ON CONFLICT (job_id, name) DO UPDATE SET
    newest = excluded.newest, lowest = {_SMALLER}, highest = {_LARGER}
"""
_ROW = "(%s, CAST(%s AS double precision), CAST(%s AS double precision), CAST(%s AS double precision))"


class Extremes(dict[str, list[float | None]]):
    """Of each name the newest, the lowest and the highest value, as they were taken in one after the other."""

    def take_in(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if value is None or (isinstance(value, int | float) and abs(value) < 1e308):
                self._newer(name, value, value, value)

    def take_in_block(self, values: Mapping[str, Sequence[Any]]) -> None:
        """Of a block the newest value is not known."""
        for name, (lowest, highest, *_) in values.items():
            self._newer(name, None, lowest, highest)

    def _newer(self, name: str, newest: float | None, lowest: float | None, highest: float | None) -> None:
        if len(name) > MetricValue.NAME_LENGTH:
            return
        known = self.setdefault(name, [None, None, None])
        known[0] = newest
        if lowest is not None:
            known[1] = lowest if known[1] is None else min(known[1], lowest)
        if highest is not None:
            known[2] = highest if known[2] is None else max(known[2], highest)


def index_config(job: TrainingJob) -> None:
    """Written when the job is made: what a job computes never changes."""
    rows = [
        ConfigValue(job=job, path=path, number=number, text=text)
        for path, (number, text) in scalars(job.config).items()
    ]
    ConfigValue.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)


def note_values(job: TrainingJob, measured: Iterable[Mapping[str, Any]]) -> None:
    """What a report measured, row by row, in one statement; said twice it is the same as once."""
    found = Extremes()
    for values in measured:
        found.take_in(values)
    _write(job, found)


def recount_values(job: TrainingJob) -> None:
    """From the rows that are left, where a job was taken back."""
    found = Extremes()
    for block in job.metric_blocks.order_by("number").values_list("values", flat=True):
        found.take_in_block(block)
    rows = Metric.objects.filter(job_id=job.pk).order_by("step")
    newest = job.metric_blocks.order_by("-number").values_list("last_step", flat=True).first() or 0
    for values in rows.filter(step__gt=newest).values_list("values", flat=True).iterator():
        found.take_in(values)
    for name in [name for name, (value, lowest, _) in found.items() if value is None and lowest is not None]:
        found[name][0] = _newest(rows, name)
    for values in rows.filter(epoch_values__isnull=False).values_list("epoch_values", flat=True).iterator():
        found.take_in(values or {})
    MetricValue.objects.filter(job_id=job.pk).delete()
    _write(job, found)


def _newest(rows: QuerySet[Metric], name: str) -> float | None:
    """The value in the newest row that has the name; null where it is not finite."""
    found = rows.filter(values__has_key=name).order_by("-step").values_list("values", flat=True).first()
    return (found or {}).get(name)


def _write(job: TrainingJob, found: Extremes) -> None:
    given = list(found.items())[: MetricValue.MOST_NAMES]
    if not given:
        return
    values = [value for name, three in given for value in (name, *three)]
    with connection.cursor() as cursor:
        rows = ", ".join([_ROW] * len(given))
        cursor.execute(_UPSERT.format(rows=rows), [job.pk, *values, job.pk, job.pk])
