"""What became of jobs: attempts, checkpoints, events, and the deletions that outlive them."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from training import policy
from training.admin.base import CheckpointColumns, History, OfVisibleJobs, local_time
from training.models import Attempt, Checkpoint, Deletion, Event
from training.presentation.answers import how_it_ended


@admin.register(Attempt)
class AttemptAdmin(OfVisibleJobs):
    list_display = (
        "__str__",
        "job",
        "node_name",
        "slot",
        "ranks",
        "started",
        "ended_time",
        "steps_executed",
        "outcome",
        "ended",
    )
    list_filter = ("outcome", "node_name", "started_at")
    search_fields = ("job__job_name", "=job__id", "node_name")
    list_select_related = ("job",)
    ordering = ("-id",)

    @display(description="Started", ordering="started_at")
    def started(self, attempt: Attempt) -> str:
        return local_time(attempt.started_at)

    @display(description="Ended", ordering="ended_at")
    def ended_time(self, attempt: Attempt) -> str:
        return local_time(attempt.ended_at)

    @display(description="Trainer")
    def ended(self, attempt: Attempt) -> str:
        return how_it_ended(attempt.exit_code)


@admin.register(Checkpoint)
class CheckpointAdmin(CheckpointColumns, OfVisibleJobs):
    list_display = (
        "__str__",
        "job",
        "kinds_shown",
        "epoch",
        "step",
        "size_shown",
        "loss_shown",
        "pinned_shown",
        "quarantined_at",
        "stored",
    )
    list_filter = ("pinned", "created_at")
    search_fields = ("job__job_name", "=job__id", "digest")
    list_select_related = ("job",)
    exclude = ("file", "kinds", "size", "val_loss")
    readonly_fields = ("kinds_shown", "size_shown", "loss_shown")


@admin.register(Event)
class EventAdmin(OfVisibleJobs):
    list_display = ("happened", "job", "seq", "kind", "message", "actor", "status", "step")
    list_filter = ("kind", "created_at")
    search_fields = ("job__job_name", "=job__id", "message", "actor")
    list_select_related = ("job",)
    ordering = ("-id",)

    @display(description="When", ordering="created_at")
    def happened(self, event: Event) -> str:
        return local_time(event.created_at)


@admin.register(Deletion)
class DeletionAdmin(History):
    list_display = ("happened", "job_number", "job_name", "recipe", "owner", "status", "actor")
    list_filter = ("created_at",)
    search_fields = ("=job_number", "job_name", "actor")
    list_select_related = ("owner",)
    ordering = ("-id",)

    @display(description="When", ordering="created_at")
    def happened(self, deletion: Deletion) -> str:
        return local_time(deletion.created_at)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).filter(policy.visible(request.user))
