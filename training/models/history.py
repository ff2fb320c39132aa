"""What happened to each job, and the deletions that outlast it."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models.functions import Now

from training.fields import NAME_LENGTH
from training.lifecycle import JobType, Status
from training.models.choices import choices
from training.models.jobs import TrainingJob


class Event(models.Model):
    """One transition, or another thing that a person should see. `seq` is gap-free per job."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=40)
    message = models.TextField()
    actor = models.CharField(max_length=160)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    attempt = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10)
    stop = models.CharField(max_length=10, blank=True)
    step = models.PositiveBigIntegerField(default=0)
    epoch = models.PositiveIntegerField(default=0)
    data = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["job_id", "seq"]
        constraints = [models.UniqueConstraint(fields=["job", "seq"], name="event_seq_once_per_job")]
        indexes = [models.Index(fields=["-created_at"], name="events_newest_first")]

    def __str__(self) -> str:
        return f"event {self.seq} of job {self.job_id}: {self.kind}"


class Deletion(models.Model):
    """Who deleted which job, and when. The job's events went with it; this row is the last of them, and stays.

    Its id is that event's, so that it has its place among the events of other jobs.
    """

    id = models.BigIntegerField(primary_key=True)
    job_number = models.PositiveBigIntegerField()
    job_name = models.CharField(max_length=NAME_LENGTH)
    job_type = models.CharField(max_length=20, choices=choices(JobType))
    recipe = models.CharField(max_length=200)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    team = models.ForeignKey(Group, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    status = models.CharField(
        max_length=10, choices=choices(Status), help_text="What the job was until then."
    )
    epoch = models.PositiveIntegerField(default=0)
    step = models.PositiveBigIntegerField(default=0)
    message = models.TextField()
    actor = models.CharField(max_length=160)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["job_number"], name="deletions_by_job")]

    def __str__(self) -> str:
        return f"deletion of {self.job_name} (job {self.job_number})"
