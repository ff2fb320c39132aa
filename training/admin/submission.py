"""The forms by which the admin submits a job: of a recipe, or of a program."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import escape
from unfold import widgets

from heimdall.errors import HeimdallError
from heimdall.recipes import registry
from training import services
from training.errors import NotAllowed
from training.models import TrainingJob
from training.presentation.job_forms import NewJobForm
from training.presentation.program_forms import ProgramForm, SecretText


@admin.action(description="Check whether scripts are resumed exactly")
def check_exactness(model_admin: Any, request: HttpRequest, jobs: QuerySet[TrainingJob]) -> None:
    """A check for each selected job, as a job of its own."""
    for job in jobs[: services.MOST_AT_ONCE]:
        try:
            messages.success(request, services.check(job, by=request.user).message)
        except HeimdallError as error:
            messages.warning(request, f"Job {job.pk}, {job.job_name}: {error}")


def new_form(request: HttpRequest, recipe: registry.RecipeInfo | None) -> NewJobForm | ProgramForm:
    """The form of a recipe; without one, of a program."""
    if recipe is not None:
        return NewJobForm(recipe, request.user, request.POST or None)
    try:
        services.require_programs(request.user)
    except NotAllowed as error:
        raise PermissionDenied(str(error)) from error
    return ProgramForm(request.user, request.POST or None, request.FILES or None)


def submission(form: NewJobForm | ProgramForm, user: Any) -> dict[str, Any]:
    if isinstance(form, NewJobForm):
        return form.submission()
    archive = form.archive()
    assert archive is not None, "the form asks for it"
    return form.submission() | {"code": services.keep_code(archive, by=user).digest}


def dress(form: NewJobForm | ProgramForm) -> None:
    """Give the form's fields unfold's widgets."""
    for field in form.fields.values():
        old = field.widget
        attrs = {name: value for name, value in old.attrs.items() if name != "class"}
        if isinstance(old, forms.CheckboxInput):
            field.widget = widgets.UnfoldBooleanSwitchWidget(attrs=attrs)
        elif isinstance(old, forms.ClearableFileInput):
            field.widget = widgets.UnfoldAdminFileFieldWidget(attrs=attrs)
        elif isinstance(old, forms.Select):
            field.widget = widgets.UnfoldAdminSelectWidget(attrs=attrs, choices=field.choices)  # type: ignore[attr-defined]
        elif isinstance(old, SecretText):
            field.widget = SecretText(attrs=widgets.UnfoldAdminTextareaWidget(attrs=attrs).attrs)
        elif isinstance(old, forms.Textarea):
            field.widget = widgets.UnfoldAdminTextareaWidget(attrs=attrs)
        elif isinstance(old, forms.NumberInput):
            field.widget = widgets.UnfoldAdminDecimalFieldWidget(attrs=attrs)
        else:
            field.widget = widgets.UnfoldAdminTextInputWidget(attrs=attrs)
        field.widget.is_required = field.required
        field.help_text = escape(field.help_text)  # unfold writes it as HTML
