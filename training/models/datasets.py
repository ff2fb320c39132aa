"""Synthetic datasets and the shards that they are made of."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models.functions import Now

from training.models.jobs import TrainingJob
from training.models.storages import dataset_storage


class Dataset(models.Model):
    """Synthetic data in shards, made by one job and those that extend it. What it holds follows from its config."""

    name = models.CharField(max_length=100, unique=True)
    recipe = models.CharField(max_length=200)
    config = models.JSONField(default=dict, help_text="Of the job that began it.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="datasets")
    team = models.ForeignKey(Group, null=True, blank=True, on_delete=models.SET_NULL, related_name="datasets")
    samples = models.PositiveBigIntegerField(
        default=0, help_text="Finished samples, without a gap from the first."
    )
    size = models.PositiveBigIntegerField(default=0)
    refused = models.JSONField(default=dict, blank=True, help_text="Refused tries by reason.")
    fingerprint = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class Shard(models.Model):
    """One finished file of a dataset. A shard without a row was never made, and is made again."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="shards")
    job = models.ForeignKey(
        TrainingJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="shards"
    )
    number = models.PositiveIntegerField(help_text="Within its job.")
    file = models.FileField(storage=dataset_storage, max_length=255)
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    samples = models.PositiveIntegerField(default=0)
    entry = models.JSONField(default=dict, help_text="What the recipe said of it.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["dataset_id", "id"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="shard_number_once_per_job"),
            models.UniqueConstraint(fields=["file"], name="one_row_a_shard_file"),
        ]

    def __str__(self) -> str:
        return f"shard {self.number} of {self.dataset_id}"

    @property
    def file_name(self) -> str:
        """In the store."""
        return self.file.name or ""
