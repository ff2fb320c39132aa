"""What a training shows beside its metrics: the newest artifact, and what it printed."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from training.models.jobs import TrainingJob


class Artifact(models.Model):
    """What a recipe shows people of the newest validated epoch. In a table of its own: lists of jobs stay light."""

    job = models.OneToOneField(TrainingJob, on_delete=models.CASCADE, related_name="artifact")
    step = models.PositiveBigIntegerField()
    epoch = models.PositiveIntegerField()
    content = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["job_id"]

    def __str__(self) -> str:
        return f"artifact of job {self.job_id} at epoch {self.epoch}"


class LogChunk(models.Model):
    """A piece of what the trainer printed. The id is the cursor for `?after=`."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="log_chunks")
    attempt = models.PositiveIntegerField()
    text = models.TextField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["job", "id"], name="log_in_order")]

    def __str__(self) -> str:
        return f"log of job {self.job_id}"
