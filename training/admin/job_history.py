"""What stands below a job: its attempts, its checkpoints and its events."""

from __future__ import annotations

from unfold.decorators import display

from training.admin.base import CheckpointColumns, HistoryInline, local_time
from training.models import Attempt, Checkpoint, Event


class AttemptInline(HistoryInline):
    model = Attempt
    fields = readonly_fields = (
        "number",
        "node_name",
        "slot",
        "started",
        "started_step",
        "ended_step",
        "outcome",
    )
    ordering = ("-number",)

    @display(description="Started")
    def started(self, attempt: Attempt) -> str:
        return local_time(attempt.started_at)


class CheckpointInline(CheckpointColumns, HistoryInline):
    model = Checkpoint
    fk_name = "job"
    fields = readonly_fields = (
        "step",
        "epoch",
        "kinds_shown",
        "size_shown",
        "loss_shown",
        "pinned_shown",
        "stored",
    )
    ordering = ("-step", "-id")


class EventInline(HistoryInline):
    model = Event
    fields = readonly_fields = ("seq", "happened", "kind", "message", "actor")
    ordering = ("-seq",)

    @display(description="When")
    def happened(self, event: Event) -> str:
        return local_time(event.created_at)
