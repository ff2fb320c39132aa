"""Sweeps: to be looked at, and steered as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from unfold.decorators import display

from heimdall.errors import HeimdallError
from training import policy, services
from training.admin.base import History, local_time
from training.models import Sweep


def _action(verb: str, label: str, act: Callable) -> Callable:
    """An admin action that does a verb to each selected sweep."""

    def steer(model_admin: SweepAdmin, request: HttpRequest, sweeps: QuerySet[Sweep]) -> None:
        for sweep in sweeps:
            try:
                act(sweep, by=request.user)
                messages.success(request, f"Sweep {sweep.pk}, {sweep.name}: {verb} done.")
            except HeimdallError as error:
                messages.warning(request, f"Sweep {sweep.pk}, {sweep.name}: {error}")

    steer.__name__ = f"{verb}_sweeps"
    steer.short_description = label  # type: ignore[attr-defined]
    return steer


@admin.register(Sweep)
class SweepAdmin(History):
    list_display = ("name", "state", "jobs_begun", "recipe", "owner", "created")
    list_filter = ("state", "recipe")
    search_fields = ("name", "=id")
    list_select_related = ("owner",)
    actions = (
        _action("pause", "Pause", services.pause_sweep),
        _action("resume", "Resume", services.resume_sweep),
        _action("cancel", "Cancel", services.cancel_sweep),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).filter(policy.visible(request.user))

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Without a sweep: whether the list offers actions at all. Each verb asks for each sweep."""
        return obj is None and self.has_module_permission(request)

    def view_on_site(self, sweep: Sweep) -> str:
        return reverse("sweep", args=[sweep.pk])

    @display(description="Jobs")
    def jobs_begun(self, sweep: Sweep) -> str:
        return f"{sweep.members.count()} of {sweep.plan['jobs'] * sweep.plan['repeats']}"

    @display(description="Created", ordering="id")
    def created(self, sweep: Sweep) -> Any:
        return local_time(sweep.created_at)
