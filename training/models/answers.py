"""Answers that are kept, so that a request sent twice is done once."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

KEY_LENGTH = 200


class KeptAnswer(models.Model):
    """The answer to a request that named an idempotency key, bound to the person and to what was asked."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=KEY_LENGTH)
    request_digest = models.CharField(max_length=64, help_text="SHA-256 of the address and the body.")
    answer = models.JSONField(null=True, help_text="Null while the request is being done.")
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_once_a_person")]

    def __str__(self) -> str:
        return self.key
