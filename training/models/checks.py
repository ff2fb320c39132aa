"""Checks of exactness: what was tried, on what, and what came out."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class ExactnessCheck(models.Model):
    """One check of a script: a job of its own stops it, resumes it and compares; see `heimdall.check`."""

    job = models.OneToOneField(
        "TrainingJob",
        null=True,
        on_delete=models.SET_NULL,
        related_name="exactness_check",
        help_text="The job that does it; null when that was deleted.",
    )
    of = models.ForeignKey(
        "TrainingJob",
        null=True,
        on_delete=models.SET_NULL,
        related_name="exactness_checks",
        help_text="The job whose script is checked.",
    )
    subject = models.CharField(
        max_length=64, db_index=True, help_text="SHA-256 of the code, the command and its environment."
    )
    verdict = models.CharField(max_length=20, blank=True, help_text="Empty until it is known.")
    reason = models.TextField(blank=True)
    device_name = models.CharField(max_length=200, blank=True)
    torch = models.CharField(max_length=100, blank=True)
    result = models.JSONField(default=dict, blank=True, help_text="All that the check found.")
    created_at = models.DateTimeField(db_default=Now())
    checked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"check {self.pk}: {self.verdict or 'not done yet'}"
