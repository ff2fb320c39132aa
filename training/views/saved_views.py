"""Saving a list of jobs under a name, and taking the name away."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from heimdall.errors import InvalidInput
from training import policy, services
from training.errors import NotFound
from training.queries.filters import Filters
from training.views.page import BIGGEST, next_address, page


@page
@require_POST
def save(request: HttpRequest) -> HttpResponse:
    filters = Filters.read(request.POST.get("query", ""))
    try:
        team = policy.team_named(request.POST.get("team") or None, request.user)
        view = services.save_view(
            by=request.user, name=request.POST.get("name", ""), query=filters.query(), team=team
        )
        messages.success(request, f"The list is saved as {view.name}.")
    except InvalidInput as error:
        messages.warning(request, error.sentences)
    return redirect(filters.url())


@page
@require_POST
def delete(request: HttpRequest, view_id: int) -> HttpResponse:
    view = services.visible_views(request.user).filter(pk=min(view_id, BIGGEST)).first()
    if view is None:
        raise NotFound(f"There is no saved view {view_id}.")
    services.delete_view(view, by=request.user)
    messages.success(request, f"The saved view {view.name} is gone; the jobs are untouched.")
    return redirect(next_address(request) or reverse("jobs"))
