"""The values of each step, and blocks of steps folded together."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from training.models.jobs import TrainingJob


class Metric(models.Model):
    """The values of one step; `epoch_values` too when the step closed an epoch. Non-finite values are null."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metric_rows")
    step = models.PositiveBigIntegerField()
    epoch = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField()
    values = models.JSONField(default=dict)
    epoch_values = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["job_id", "step"]
        constraints = [models.UniqueConstraint(fields=["job", "step"], name="one_metric_row_a_step")]
        indexes = [
            models.Index(
                fields=["job", "step"], condition=Q(epoch_values__isnull=False), name="closed_epochs"
            )
        ]

    def __str__(self) -> str:
        return f"metrics of job {self.job_id} at step {self.step}"


class MetricBlock(models.Model):
    """So many steps in a row, folded together: long curves are drawn from these. Made when the last step is there.

    Block n holds the steps n * SPAN + 1 to (n + 1) * SPAN; `values` are [lowest, highest, sum, count] by name.
    """

    SPAN = 256

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metric_blocks")
    number = models.PositiveBigIntegerField()
    last_step = models.PositiveBigIntegerField()
    values = models.JSONField(default=dict)
    created_at = models.DateTimeField(help_text="Of its last step.")

    class Meta:
        ordering = ["job_id", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="one_block_a_job_and_number")]

    def __str__(self) -> str:
        return f"block {self.number} of the metrics of job {self.job_id}"
