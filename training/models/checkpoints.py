"""Checkpoints: one row a durable file."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from training.models.jobs import TrainingJob
from training.models.storages import checkpoint_storage


class Checkpoint(models.Model):
    """One durable checkpoint. It exists when its row does; several kinds may share it."""

    class Kind(models.TextChoices):
        PAUSE = "pause"
        PERIODIC = "periodic"
        BEST = "best"
        FINAL = "final"
        DRAIN = "drain"
        START = "start"  # a copy of another job's, which this job began from

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField()
    generation = models.PositiveIntegerField(default=0)
    step = models.PositiveBigIntegerField()
    epoch = models.PositiveIntegerField()
    kinds = models.JSONField(default=list)
    file = models.FileField(storage=checkpoint_storage, max_length=255)
    size = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64, help_text="SHA-256 over the state and nothing else.")
    header_sha256 = models.CharField(
        max_length=64, blank=True, help_text="Names the whole file; empty for files from before it was kept."
    )
    val_loss = models.FloatField(null=True, blank=True)
    pinned = models.BooleanField(default=False)
    quarantined_at = models.DateTimeField(null=True, blank=True)
    quarantine_reason = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["file"], name="one_row_a_checkpoint_file")]
        indexes = [
            models.Index(fields=["job", "generation", "-step", "-id"], name="checkpoints_newest_first")
        ]

    def __str__(self) -> str:
        return f"checkpoint of job {self.job_id} at step {self.step}"

    @property
    def file_name(self) -> str:
        """In the store."""
        return self.file.name or ""
