"""What jobs are filtered and sorted by beside their own columns: values of configs and of metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from django.db import models

from training.models.jobs import TrainingJob

EXACT = 2**53  # whole numbers up to here are floats


class ConfigValue(models.Model):
    """One value of a job's config. A number that no float has exactly stands as text too."""

    PATH_LENGTH, TEXT_LENGTH = 200, 200

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="config_values")
    path = models.CharField(
        max_length=PATH_LENGTH, help_text="Names of nested fields, with dots between them."
    )
    number = models.FloatField(null=True)
    text = models.CharField(max_length=TEXT_LENGTH, null=True)

    class Meta:
        ordering = ["job_id", "path"]
        constraints = [models.UniqueConstraint(fields=["job", "path"], name="one_value_a_job_and_path")]
        indexes = [
            models.Index(fields=["path", "number", "job"], name="config_values_by_number"),
            models.Index(fields=["path", "text", "job"], name="config_values_by_text"),
        ]

    def __str__(self) -> str:
        return f"{self.path} of job {self.job_id}"


class MetricValue(models.Model):
    """One metric of a job: its newest value, null where that is not finite, and the lowest and the highest.

    Written with the rows of metrics that they sum up, in one transaction.
    """

    NAME_LENGTH = 200
    MOST_NAMES = 500  # of one job

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metric_values")
    name = models.CharField(max_length=NAME_LENGTH)
    newest = models.FloatField(null=True)
    lowest = models.FloatField(null=True)
    highest = models.FloatField(null=True)

    class Meta:
        ordering = ["job_id", "name"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_value_a_job_and_metric")]
        indexes = [
            models.Index(fields=["name", "newest", "job"], name="metric_values_by_newest"),
            models.Index(fields=["name", "lowest", "job"], name="metric_values_by_lowest"),
            models.Index(fields=["name", "highest", "job"], name="metric_values_by_highest"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of job {self.job_id}"


def scalars(config: Mapping[str, Any], before: str = "") -> dict[str, tuple[float | None, str | None]]:
    """Every path that has a value which can be looked for, and the value's number and text."""
    found: dict[str, tuple[float | None, str | None]] = {}
    for name, value in config.items():
        path = f"{before}{name}"
        if isinstance(value, Mapping):
            found = scalars(value, f"{path}.") | found
        elif len(path) <= ConfigValue.PATH_LENGTH and is_text(path) and indexed(value) != (None, None):
            found[path] = indexed(value)
    return found


def indexed(value: Any) -> tuple[float | None, str | None]:
    """A value's number and its text in the index; neither for what cannot be looked for."""
    if isinstance(value, bool):
        return None, "true" if value else "false"
    if isinstance(value, str):
        return None, value if len(value) <= ConfigValue.TEXT_LENGTH and is_text(value) else None
    if isinstance(value, int) and abs(value) > EXACT:
        return as_float(value), str(value) if len(str(value)) <= ConfigValue.TEXT_LENGTH else None
    return (as_float(value), None) if isinstance(value, int | float) else (None, None)


def as_float(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def is_text(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)
