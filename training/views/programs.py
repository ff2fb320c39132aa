"""Programs on the pages: the form that submits one, and the files of a job's code."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from training import policy, services
from training.errors import BadCheckpoint, NotFound, StorageUnavailable
from training.models import Checkpoint, CodeArchive, TrainingJob
from training.presentation import code_files
from training.presentation.program_forms import ProgramForm, initial_of_program
from training.services import Result
from training.store.code import BadCode
from training.views.forms import initial_from
from training.views.page import page, visible_job


@page
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Submit a program."""
    services.require_programs(request.user)
    return _answer(request, ProgramForm(request.user, request.POST or None, request.FILES or None))


def clone(request: HttpRequest, parent: TrainingJob) -> HttpResponse:
    """The form of a job like this one, which runs a program."""
    services.require_programs(request.user)
    return _answer(request, _form(request, parent, "copy"), parent=parent)


def fork(request: HttpRequest, parent: TrainingJob, start: Checkpoint) -> HttpResponse:
    """The form of a job that begins from a checkpoint of this one, which runs a program."""
    services.require_programs(request.user)
    return _answer(request, _form(request, parent, "fork"), parent=parent, start=start)


@page
@require_http_methods(["GET", "POST"])
def check(request: HttpRequest, job_id: int) -> HttpResponse:
    """Asks first: a check is a job of its own, which trains the script several times."""
    seen = visible_job(request, job_id)
    services.require_programs(request.user)
    refused = services.why_not_checkable(seen)
    if request.method == "POST" and not refused:
        try:
            result = services.check(seen, by=request.user)
            messages.success(request, result.message)
            return redirect("job", result.job.pk)
        except InvalidInput as error:
            refused = " ".join(error.sentences)
    context = {"section": "jobs", "job": seen, "refused": refused}
    return render(request, "job_check.html", context, status=400 if request.method == "POST" else 200)


@page
@require_GET
def code(request: HttpRequest, job_id: int) -> HttpResponseBase:
    """The whole code of a job as an archive."""
    try:
        return code_files.send(request, _code_of(request, job_id))
    except BadCode as error:
        raise NotFound(str(error)) from error


@page
@require_GET
def file(request: HttpRequest, job_id: int, name: str) -> HttpResponse:
    """One file of a job's code, to look at as text."""
    try:
        return code_files.send_one(_code_of(request, job_id), name)
    except BadCode as error:
        raise NotFound(str(error)) from error


def _code_of(request: HttpRequest, job_id: int) -> CodeArchive:
    found = visible_job(request, job_id).code
    if found is None:
        raise Http404("This job has no code of its own.")
    return found


def _form(request: HttpRequest, parent: TrainingJob, what: str) -> ProgramForm:
    initial = initial_from(parent, what) | initial_of_program(parent)
    return ProgramForm(
        request.user, request.POST or None, request.FILES or None, parent=parent, initial=initial
    )


def _answer(
    request: HttpRequest,
    form: ProgramForm,
    *,
    parent: TrainingJob | None = None,
    start: Checkpoint | None = None,
) -> HttpResponse:
    if form.is_valid():
        try:
            result = _submitted(request.user, form, parent, start)
            messages.success(request, result.message)
            return redirect("job", result.job.pk)
        except InvalidInput as error:
            form.refuse(error)
        except (BadCheckpoint, StorageUnavailable, BadCode) as error:
            form.add_error(None, str(error))
    context = {"section": "new", "form": form, "recipes": registry.usable(), "parent": parent, "start": start}
    context |= {"is_program": True, "may_run_programs": policy.may_run_programs(request.user)}
    return render(request, "job_new.html", context, status=400 if form.errors else 200)


def _submitted(user: Any, form: ProgramForm, parent: TrainingJob | None, start: Checkpoint | None) -> Result:
    archive, given = form.archive(), form.submission()
    kept = services.keep_code(archive, by=user).digest if archive is not None else ""
    if parent is None:
        return services.submit(by=user, code=kept, **given)
    if start is None:
        return services.clone(parent, by=user, code=kept, **given)
    return services.fork(parent, by=user, code=kept, checkpoint=start.pk, **given)
