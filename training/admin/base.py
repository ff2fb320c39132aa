"""What everything here stands on: rows that tell what happened are to be read, never to be changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from training import policy
from training.models import Checkpoint
from training.templatetags.heimdall import NOTHING, iso, loss


def local_time(moment: datetime | str | None) -> str:
    """A time that admintimes.js writes as the reader's clock shows it."""
    found = parse_datetime(moment) if isinstance(moment, str) else moment
    if found is None:
        return NOTHING
    shown = timezone.localtime(found).strftime("%Y-%m-%d %H:%M:%S")
    return format_html('<time datetime="{}" data-local>{}</time>', iso(found), shown)


class History(ModelAdmin):
    """Rows that tell what happened: to be read, never to be changed."""

    list_per_page = 50
    show_full_result_count = False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_staff

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class OfVisibleJobs(History):
    """History that belongs to jobs: only of those that the user can see."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).filter(job__in=policy.visible_jobs(request.user))


class HistoryInline(TabularInline):
    extra = 0
    per_page = 20
    hide_title = True  # a row's own words would only repeat its columns
    can_delete = False
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return True  # whoever sees the job sees its history

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class Sized:
    """Rows with a `size` in bytes, for a column `size_shown`."""

    @display(description="Size", ordering="size")
    def size_shown(self, row: Any) -> str:
        return filesizeformat(row.size)


class CheckpointColumns(Sized):
    @display(description="Kinds")
    def kinds_shown(self, checkpoint: Checkpoint) -> str:
        return ", ".join(checkpoint.kinds)

    @display(description="Pinned", ordering="pinned")
    def pinned_shown(self, checkpoint: Checkpoint) -> str:
        return "pinned" if checkpoint.pinned else ""

    @display(description="Stored", ordering="created_at")
    def stored(self, checkpoint: Checkpoint) -> str:
        return local_time(checkpoint.created_at)

    @display(description="Val loss", ordering="val_loss")
    def loss_shown(self, checkpoint: Checkpoint) -> str:
        return loss(checkpoint.val_loss)
