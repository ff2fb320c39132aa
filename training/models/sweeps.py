"""Sweeps: many jobs that try what a space of settings holds. A sweep has a state of its own and gives jobs none."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models.functions import Now

from training.models.code import CodeArchive
from training.models.jobs import TrainingJob


class Sweep(models.Model):
    """What is searched, how, and how far it has come. Its jobs are ordinary jobs of its owner."""

    class SweepState(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        FINISHED = "finished"
        CANCELLED = "cancelled"

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sweeps")
    team = models.ForeignKey(Group, null=True, blank=True, on_delete=models.SET_NULL, related_name="sweeps")
    recipe = models.CharField(max_length=200, blank=True)
    config = models.JSONField(default=dict, blank=True, help_text="The settings that all of its jobs share.")
    program = models.JSONField(default=dict, blank=True, help_text="In the place of a recipe.")
    code = models.ForeignKey(
        CodeArchive, null=True, blank=True, on_delete=models.PROTECT, related_name="sweeps"
    )
    space = models.JSONField(help_text="Of each searched setting the values that it may take.")
    plan = models.JSONField(help_text="How it searches, what it compares, and how much it may spend.")
    epochs = models.PositiveIntegerField(help_text="How long a job that nothing stops trains.")
    priority = models.SmallIntegerField(default=0)
    pool = models.CharField(max_length=60, blank=True, default="")
    tags = models.JSONField(default=list, blank=True)
    state = models.CharField(max_length=10, choices=SweepState, default=SweepState.RUNNING)
    trouble = models.TextField(blank=True, help_text="Why it does not go on at the moment.")
    held_until = models.DateTimeField(
        null=True, blank=True, help_text="Somebody decides on it; others leave it alone until then."
    )
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state"], condition=models.Q(state="running"), name="sweeps_running"),
            models.Index(fields=["owner", "-id"], name="sweeps_by_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.name} (sweep {self.pk})"


class SweepMember(models.Model):
    """One job of a sweep: a combination, by its number, and one of its seeds."""

    sweep = models.ForeignKey(Sweep, on_delete=models.CASCADE, related_name="members")
    number = models.PositiveIntegerField(help_text="Of the combination, from 0.")
    repeat = models.PositiveIntegerField(default=0)
    params = models.JSONField()
    bracket = models.PositiveSmallIntegerField(default=0)
    job = models.OneToOneField(
        TrainingJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="sweep_member"
    )

    class Meta:
        ordering = ["number", "repeat"]
        constraints = [
            # Whoever decides twice creates nothing twice.
            models.UniqueConstraint(
                fields=["sweep", "number", "repeat"], name="one_member_a_number_and_repeat"
            )
        ]

    def __str__(self) -> str:
        return f"member {self.number} of sweep {self.sweep_id}"
