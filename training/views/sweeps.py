"""The pages of sweeps: the list, the form, and one sweep with its leaders."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from heimdall.errors import HeimdallError, InvalidInput
from heimdall.recipes import registry
from training import services
from training.models import Sweep
from training.presentation.sweep_forms import SweepForm
from training.queries import sweeps as shown
from training.views.page import BIGGEST, page, whole

MOST_SHOWN, MOST_LEADERS = 100, 200
_STEERS = {
    "pause": services.pause_sweep,
    "resume": services.resume_sweep,
    "cancel": services.cancel_sweep,
    "delete": services.delete_sweep,
}
_DONE = {
    "pause": "Its jobs pause at the end of their epochs, and no new one is started.",
    "resume": "It goes on.",
    "cancel": "It is cancelled. Jobs that rest keep their checkpoints.",
    "delete": "It is deleted; its jobs stay as they are.",
}


@page
@require_GET
def sweeps(request: HttpRequest) -> HttpResponse:
    found = services.visible_sweeps(request.user)[:MOST_SHOWN]
    context = {"section": "sweeps", "sweeps": [_shape(one, request) for one in found]}
    return render(request, "sweeps.html", context)


@page
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Begin a sweep over one recipe."""
    recipes = [one for one in registry.usable() if one.job_type == "training"]
    wanted = request.GET.get("recipe") or (recipes[0].name if recipes else "")
    recipe = next((one for one in recipes if one.name == wanted), None)
    if recipe is None:
        raise Http404("There is no such recipe of trainings.")
    form = SweepForm(recipe, request.user, request.POST or None)
    if form.is_valid():
        try:
            made = services.submit_sweep(by=request.user, **form.submission())
            messages.success(request, f"Sweep {made.pk} has begun.")
            return redirect("sweep", made.pk)
        except InvalidInput as error:
            form.refuse(error)
    context = {"section": "sweeps", "form": form, "recipes": recipes, "recipe": recipe}
    return render(request, "sweep_new.html", context, status=400 if form.errors else 200)


@page
@require_GET
def sweep(request: HttpRequest, pk: int) -> HttpResponse:
    seen = _find(request, pk)
    leading = shown.leaders(seen, request.user)
    context = {
        "section": "sweeps",
        "sweep": _shape(seen, request),
        "names": list(seen.space),
        "leaders": [_row(row, list(seen.space)) for row in leading[:MOST_LEADERS]],
        "drawn": [{"params": row["params"], "value": row["value"], "at": row["at_epoch"]} for row in leading],
        "saved": shown.saved_by_pausing(seen),
        "best_jobs": ",".join(str(job["id"]) for row in leading[:8] for job in row["jobs"][:1]),
    }
    return render(request, "sweep.html", context)


@page
@require_POST
def steer(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    seen = _find(request, pk)
    if verb not in (*_STEERS, "extend"):
        raise Http404("There is no such verb.")
    try:
        if verb == "extend":
            services.extend_sweep(seen, jobs=whole(request.POST.get("jobs")), by=request.user)
            messages.success(request, "More combinations are tried.")
        else:
            _STEERS[verb](seen, by=request.user)
            messages.success(request, _DONE[verb])
    except HeimdallError as error:
        messages.warning(request, str(error))
    return redirect("sweeps") if verb == "delete" else redirect("sweep", pk)


def _row(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return row | {"cells": [row["params"].get(name) for name in names]}


def _shape(one: Sweep, request: HttpRequest) -> dict[str, Any]:
    return shown.sweep_dict(one, request.user, services.verbs_of_sweep(one, request.user))


def _find(request: HttpRequest, pk: int) -> Sweep:
    return services.sweep_named(min(pk, BIGGEST), by=request.user)
