"""API tokens: what programs log in with."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class ApiToken(models.Model):
    """What a program shows to act for a person. Its value is shown once, when it is made; only a hash is kept."""

    class Scope(models.TextChoices):
        READ = "read", "read only"
        FULL = "full", "everything its person may do"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256 of the value.")
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.FULL)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Refused from then on; empty: never.")
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name = "API token"
        constraints = [
            models.UniqueConstraint(fields=["user", "name"], name="one_token_of_a_name_per_person"),
            models.CheckConstraint(condition=Q(scope__in=["read", "full"]), name="a_token_has_a_known_scope"),
        ]

    def __str__(self) -> str:
        return f"token {self.name}"
