"""What a training uses of its machine, over time."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from training.models.jobs import TrainingJob


class ResourceSample(models.Model):
    """The trainer's processes together, as they were seen at one time, or on average over `span_seconds`."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="resource_samples")
    attempt = models.PositiveIntegerField()
    at = models.DateTimeField(db_default=Now())
    span_seconds = models.FloatField(default=0, help_text="0: seen once; else the mean of so many seconds.")
    cpu_percent = models.FloatField(null=True, help_text="Of one core: 250 are two and a half cores.")
    memory = models.FloatField(null=True, help_text="Resident bytes.")
    read_rate = models.FloatField(null=True, help_text="Bytes a second from disks.")
    write_rate = models.FloatField(null=True, help_text="Bytes a second to disks.")
    gpu_percent = models.FloatField(null=True, help_text="Of the time in which a kernel ran.")
    gpu_memory = models.FloatField(null=True, help_text="Bytes in use on the GPU.")

    VALUES = ("cpu_percent", "memory", "read_rate", "write_rate", "gpu_percent", "gpu_memory")

    class Meta:
        ordering = ["at", "id"]
        indexes = [models.Index(fields=["job", "at"], name="resource_samples_by_time")]

    def __str__(self) -> str:
        return f"resources of job {self.job_id} at {self.at}"
