"""Datasets and their files."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from training import services
from training.admin.base import History, HistoryInline, Sized
from training.models import Dataset, Shard


class ShardInline(Sized, HistoryInline):
    model = Shard
    fields = readonly_fields = ("number", "job", "samples", "size_shown", "sha256", "created_at")
    show_change_link = False
    ordering = ("id",)


@admin.register(Dataset)
class DatasetAdmin(Sized, History):
    """To be read; a dataset is extended and deleted on its page."""

    list_display = ("name", "recipe", "owner", "samples", "size_shown", "created_at")
    list_filter = ("recipe", "created_at")
    search_fields = ("name",)
    list_select_related = ("owner",)
    inlines = (ShardInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return services.visible_datasets(request.user)

    def view_on_site(self, dataset: Dataset) -> str:
        return reverse("dataset", args=[dataset.name])
