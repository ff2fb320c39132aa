"""API tokens: what programs log in with."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from training.models.jobs import TrainingJob


class ApiToken(models.Model):
    """What a program shows to act for a person. Its value is shown once, when it is made; only a hash is kept.

    One of the scope `report` belongs to an attempt of a job, and holds while that attempt does.
    """

    class Scope(models.TextChoices):
        READ = "read", "read only"
        ACT = "act", "read; pause, resume and cancel"
        SUBMIT = "submit", "the same, and make and edit jobs"
        ADMIN = "admin", "everything its person may do"
        REPORT = "report", "report of its job"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256 of the value.")
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.ADMIN)
    job = models.ForeignKey(
        TrainingJob,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="tokens",
        help_text="The only job that it may report of.",
    )
    attempt = models.PositiveIntegerField(
        null=True, blank=True, help_text="Refused from this attempt's end on."
    )
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Refused from then on; empty: never.")
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name = "API token"
        constraints = [
            models.UniqueConstraint(
                fields=["user", "name"], condition=Q(job__isnull=True), name="one_token_of_a_name_per_person"
            ),
            models.CheckConstraint(
                condition=Q(scope__in=["read", "act", "submit", "admin", "report"]),
                name="a_token_has_a_known_scope",
            ),
            models.CheckConstraint(
                condition=Q(scope="report", job__isnull=False, attempt__isnull=False)
                | (~Q(scope="report") & Q(job__isnull=True, attempt__isnull=True)),
                name="a_token_reports_of_one_attempt",
            ),
        ]

    def __str__(self) -> str:
        return f"token {self.name}"
