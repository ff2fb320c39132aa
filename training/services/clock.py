"""Times in the database's clock: no worker's clock decides anything."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now


def in_seconds(seconds: float) -> ExpressionWrapper:
    """That long from now, in the database's clock."""
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())


def lease_end() -> ExpressionWrapper:
    return in_seconds(settings.LEASE_SECONDS)
