"""The forms that make a job or change what it is called."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from training import policy, queries, services
from training.errors import BadCheckpoint, NotFound, StorageUnavailable, TransitionRefused
from training.lifecycle import JobType
from training.models import Checkpoint
from training.presentation.job_forms import NewJobForm
from training.views import programs
from training.views.forms import EditForm, ExtendJobForm, ForkForm, initial_from, initial_of
from training.views.page import page, visible_job, whole


@page
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Submit a job of one recipe, empty or filled in from another job (?from=<id>)."""
    parent = visible_job(request, whole(request.GET.get("from"))) if "from" in request.GET else None
    if parent is not None and parent.job_type == JobType.EXTERNAL:
        raise Http404("A job that is trained somewhere else is started there.")
    if parent is not None and services.is_program(parent):
        return programs.clone(request, parent)
    known = registry.usable()
    wanted = parent.recipe if parent else request.GET.get("recipe", known[0].name if known else "")
    recipe = _named(wanted, known)
    if recipe is None and wanted:
        raise Http404("There is no such recipe.")
    form = None
    if recipe:
        start = initial_from(parent) if parent else {"job_name": "", **initial_of(request.GET)}
        form = NewJobForm(recipe, request.user, request.POST or None, initial=start)
        if form.is_valid():
            try:
                given = form.submission()
                if parent:
                    del given["recipe"]
                    result = services.clone(parent, by=request.user, **given)
                else:
                    result = services.submit(by=request.user, **given)
                messages.success(request, result.message)
                return redirect("job", result.job.pk)
            except InvalidInput as error:
                form.refuse(error)
    context = {"section": "new", "form": form, "recipe": recipe, "recipes": known, "parent": parent}
    context["may_run_programs"] = settings.PROGRAMS and policy.may_run_programs(request.user)
    context["last"] = queries.last_job_of(request.user, recipe.name) if recipe and not parent else None
    return render(request, "job_new.html", context, status=400 if form and form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def fork(request: HttpRequest, job_id: int) -> HttpResponse:
    """A new job from a checkpoint of this one (?checkpoint=<id>, else the newest good one)."""
    seen = visible_job(request, job_id)
    wanted = whole(request.GET.get("checkpoint")) or seen.latest_checkpoint_id
    start = Checkpoint.objects.filter(job=seen, pk=wanted, quarantined_at=None).first()
    if start is not None and services.is_program(seen):
        return programs.fork(request, seen, start)
    recipe = _named(seen.recipe, registry.usable())
    if start is None or recipe is None:
        raise Http404("There is no checkpoint to begin from.")
    form = ForkForm(recipe, request.user, start, request.POST or None, initial=initial_from(seen, "fork"))
    if form.is_valid():
        try:
            result = services.fork(seen, by=request.user, checkpoint=start.pk, **form.submission())
            messages.success(request, result.message)
            return redirect("job", result.job.pk)
        except InvalidInput as error:
            form.refuse(error)
        except (BadCheckpoint, StorageUnavailable, NotFound) as error:
            form.add_error(None, str(error))
    context = {"section": "jobs", "form": form, "recipe": recipe, "parent": seen, "start": start}
    return render(request, "job_new.html", context, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def extend(request: HttpRequest, job_id: int) -> HttpResponse:
    """More epochs of a completed training, as a new job."""
    seen = visible_job(request, job_id)
    form = ExtendJobForm(request.POST or None)
    refused = services.why_not_extendable(seen)
    if form.is_valid() and not refused:
        try:
            result = services.extend(seen, by=request.user, epochs=form.cleaned_data["epochs"])
            messages.success(request, result.message)
            return redirect("job", result.job.pk)
        except InvalidInput as error:
            form.add_error("epochs", error.sentences)
        except (BadCheckpoint, StorageUnavailable, TransitionRefused) as error:
            form.add_error(None, str(error))
    about = services.about_the_schedule(seen)
    context = {"section": "jobs", "form": form, "job": seen, "refused": refused, "about": about}
    return render(request, "job_extend.html", context, status=400 if form.errors else 200)


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


def _named(name: str, recipes: list[registry.RecipeInfo]) -> registry.RecipeInfo | None:
    return next((found for found in recipes if found.name == name), None)
