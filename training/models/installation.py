"""The installation itself."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Installation(models.Model):
    """The one row that says which store of checkpoints belongs to this database."""

    store_id = models.CharField(max_length=32)
    bygone = models.JSONField(
        default=dict,
        blank=True,
        help_text="What the attempts of deleted jobs add to the counters of /metrics.",
    )
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"store {self.store_id}"
