"""How a person arranged a page."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class PageLayout(models.Model):
    """Which panels of curves a person sees on a kind of page, in their order."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="page_layouts")
    page = models.CharField(max_length=120, help_text="Such as job:localization, or compare.")
    panels = models.JSONField(
        default=list, help_text="Names of metrics, those of one panel joined by commas."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "page"], name="one_layout_a_user_and_page")]

    def __str__(self) -> str:
        return f"{self.page} of {self.user_id}"
