"""The forms that make a job or change what it is called."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from training import policy, services
from training.errors import (
    HeimdallError,
    InvalidInput,
)
from training.forms import EditForm, NewJobForm, initial_from, initial_of
from training.recipes import registry
from training.views.page import page, visible_job, whole


@page
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Submit a job of one recipe, empty or filled in from another job (?from=<id>)."""
    parent = visible_job(request, whole(request.GET.get("from"))) if "from" in request.GET else None
    known = [found for name in registry.names() if (found := _recipe(name))]
    wanted = parent.recipe if parent else request.GET.get("recipe", known[0].name if known else "")
    recipe = next((found for found in known if found.name == wanted), None)
    if recipe is None and wanted:
        raise Http404("There is no such recipe.")
    form = None
    if recipe:
        start = initial_from(parent) if parent else {"job_name": "", **initial_of(request.GET)}
        form = NewJobForm(recipe, request.user, request.POST or None, initial=start)
        if form.is_valid():
            try:
                result = services.submit(by=request.user, parent=parent, **form.submission())
                messages.success(request, result.message)
                return redirect("job", result.job.pk)
            except InvalidInput as error:
                form.refuse(error)
    context = {"section": "new", "form": form, "recipe": recipe, "recipes": known, "parent": parent}
    return render(request, "job_new.html", context, status=400 if form and form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, job_id: int) -> HttpResponse:
    seen = visible_job(request, job_id)
    policy.require(request.user, policy.EDIT, seen)
    form = EditForm.of(seen, request.POST or None)
    if form.is_valid():
        try:
            services.edit(seen, by=request.user, **form.cleaned_data)
            messages.success(request, f"Job {seen.pk} was changed.")
            return redirect("job", seen.pk)
        except InvalidInput as error:
            form.refuse(error)
    context = {"section": "jobs", "job": seen, "form": form}
    return render(request, "job_edit.html", context, status=400 if form.errors else 200)


def _recipe(name: str) -> registry.RecipeInfo | None:
    """A recipe that cannot be used is left out of the choice; the start of the server says why."""
    try:
        return registry.get(name)
    except HeimdallError:
        return None
