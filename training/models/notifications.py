"""Who is notified of what, and the outbox of messages."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from training.models.jobs import TrainingJob


class Watch(models.Model):
    """Somebody wants to know what becomes of a job."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="watches")
    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="watches")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["user", "job"], name="one_watch_a_user_and_job")]

    def __str__(self) -> str:
        return f"{self.user_id} watches job {self.job_id}"


class Subscription(models.Model):
    """Where a user or a team is told of transitions: a webhook or an e-mail address, and of which jobs."""

    class Via(models.TextChoices):
        WEBHOOK = "webhook"
        EMAIL = "email", "e-mail"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="subscriptions",
    )
    team = models.ForeignKey(
        Group, null=True, blank=True, on_delete=models.CASCADE, related_name="subscriptions"
    )
    via = models.CharField(max_length=10, choices=Via)
    target = models.CharField(max_length=500, help_text="The webhook's URL, or the e-mail address.")
    format = models.CharField(
        max_length=10,
        default="heimdall",
        help_text="How a webhook's messages are written: our JSON, or for a chat.",
    )
    secret = models.CharField(
        max_length=100, blank=True, help_text="Signs the webhook's messages. Shown once, never logged."
    )
    topics = models.JSONField(default=list, blank=True, help_text="Empty: every one.")
    of_own = models.BooleanField(default=True)
    of_watched = models.BooleanField(default=True)
    of_team = models.BooleanField(default=False)
    active = models.BooleanField(default=True)
    failures = models.PositiveIntegerField(default=0, help_text="Failed tries in succession.")
    resting_until = models.DateTimeField(
        null=True, blank=True, help_text="After a failure it is left alone for a while."
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, team__isnull=True) | Q(user__isnull=True, team__isnull=False),
                name="a_user_or_a_team_subscribes",
            ),
            models.CheckConstraint(
                condition=(Q(via="webhook") & ~Q(secret="")) | Q(via="email", secret=""),
                name="webhooks_alone_have_a_secret",
            ),
        ]

    def __str__(self) -> str:
        return f"subscription {self.pk} by {self.via}"


class Delivery(models.Model):
    """One message in the outbox: written with the transition that it tells of, sent and noted by a worker."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        GIVEN_UP = "given_up", "given up"

    key = models.UUIDField(
        unique=True, default=uuid.uuid4, help_text="The same in every try: receivers know doubles by it."
    )
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="deliveries")
    job = models.ForeignKey(
        TrainingJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="deliveries"
    )
    topic = models.CharField(max_length=20)
    content = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(db_default=Now())
    last_try_at = models.DateTimeField(null=True, blank=True)
    answer_status = models.PositiveSmallIntegerField(null=True, blank=True)
    answer = models.TextField(blank=True, help_text="The beginning of the last answer, or why there is none.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(state="waiting"), name="deliveries_to_send"),
            models.Index(fields=["subscription", "-id"], name="deliveries_newest_first"),
        ]

    def __str__(self) -> str:
        return f"delivery {self.key}"
