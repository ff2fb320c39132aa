"""The page where a completed localization is asked where transmitters are."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from training import services
from training.errors import BadCheckpoint, LocatorBusy, StorageUnavailable, TransitionRefused
from training.fields import NAME_LENGTH
from training.models import TrainingJob
from training.presentation.form_fields import Shown
from training.presentation.job_forms import PREFIX
from training.presentation.located_files import FILES
from training.presentation.report_rows import COLUMNS, rows_of, typed_csv
from training.presentation.streams import send_pieces
from training.services.locating import DATASET_RECIPE, RECIPE, LocatorProcess
from training.views.page import page, visible_job

SHOWN = 100
"""Answers on the page; files hold all of them."""
MOST_TEXT_BYTES = 300_000
"""Of a file that is shown to be mended; longer ones are chosen again."""
REFUSED = (BadCheckpoint, InvalidInput, LocatorBusy, StorageUnavailable, TransitionRefused)
EXAMPLE = (
    "transmission,receiver,arrival_ns,error_ns,snr_db,rss_dbm\n"
    "evening 1,Torino,1042,110,18.5,-104\n"
    "evening 1,Genova,0,104,24.0,-99\n"
)


class TrainingForm(forms.Form):
    """A dataset and a training for the receivers of some reports. The scene is what the reports say of them."""

    name = forms.CharField(
        label="Name", max_length=NAME_LENGTH - 10, initial="my receivers", help_text="Of both jobs."
    )
    samples = forms.IntegerField(
        label="Samples", initial=50_000, min_value=100, max_value=5_000_000, help_text="Simulated stations."
    )
    epochs = forms.IntegerField(
        label="Epochs", initial=16, min_value=1, max_value=1000, help_text="16 take some minutes on one core."
    )
    scene = forms.JSONField(widget=forms.HiddenInput)

    @property
    def shown(self) -> list[Shown]:
        return [Shown(self[name]) for name in self.fields if name != "scene"]


@page
@require_http_methods(["GET", "POST"])
def locate(request: HttpRequest, job_id: int) -> HttpResponseBase:
    """Reports as a file, as text or typed; answers on a map, as GeoJSON, KML or JSON, or a training for them."""
    seen = visible_job(request, job_id)
    context = _context(request, seen)
    if request.method == "POST":
        try:
            return _answered(request, seen, context)
        except REFUSED as error:
            context |= {"errors": _sentences(error)}
    return render(request, "locate.html", context, status=400 if "errors" in context else 200)


@page
@require_POST
def train(request: HttpRequest, job_id: int) -> HttpResponse:
    """Queue the dataset and the training that were offered."""
    seen = visible_job(request, job_id)
    form = TrainingForm(request.POST)
    errors: list[str] = []
    if form.is_valid():
        try:
            made, training = services.train_for(by=request.user, **form.cleaned_data)
            messages.success(request, f"{made.message} {training.message} It waits for the data.")
            return redirect("job", training.job.pk)
        except InvalidInput as error:
            errors = _sentences(error)
    scene = form.cleaned_data.get("scene") if hasattr(form, "cleaned_data") else None
    return _offer(request, seen, form, scene if isinstance(scene, dict) else {}, errors)


def _offer(
    request: HttpRequest, seen: TrainingJob, form: TrainingForm, scene: dict[str, Any], errors: list[str]
) -> HttpResponse:
    context = {
        "section": "jobs",
        "job": seen,
        "form": form,
        "errors": errors,
        "receivers": _receivers(scene),
        "scene": [(name.replace("_", " "), value) for name, value in scene.items() if name != "receivers"],
        "every_setting": f"{reverse('job-new')}?{_query(scene)}",
    }
    return render(request, "locate_train.html", context, status=400 if errors or form.errors else 200)


def _receivers(scene: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the scene; the recipe's own where it names none."""
    found = scene.get("receivers") or registry.validate(DATASET_RECIPE, {})["receivers"]
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _context(request: HttpRequest, seen: TrainingJob) -> dict[str, Any]:
    return {
        "section": "jobs",
        "job": seen,
        "can_locate": services.can_locate(seen),
        "columns": [label for _, label in COLUMNS],
        "rows": rows_of(seen, request.POST.dict()),
        "text": _text(request),
        "example": EXAMPLE,
        "tiles": settings.MAP_TILES,
        "tiles_by": settings.MAP_TILES_BY,
    }


def _text(request: HttpRequest) -> str:
    """What was sent stands in the text: to be mended, or to be asked for as a file without choosing it again."""
    if "file" not in request.FILES:
        return request.POST.get("text", "")
    file = request.FILES["file"]
    if file.size > MOST_TEXT_BYTES:
        return ""
    text = file.read().decode("utf-8-sig", "replace")
    file.seek(0)
    return text


def _answered(request: HttpRequest, seen: TrainingJob, context: dict[str, Any]) -> HttpResponseBase:
    raw = _reports(request)
    wanted = request.POST.get("wanted", "page")
    if wanted == "training":
        scene = services.suggest_config(seen, by=request.user, reports=raw)
        initial = {"scene": scene}
        return _offer(request, seen, TrainingForm(initial=initial), scene, [])
    located = services.locate(seen, by=request.user, reports=raw)
    if wanted in FILES:
        return _file(request, seen, wanted, located)
    try:
        following = iter(located)
        shown = list(islice(following, SHOWN))
        num_answers = len(shown) + sum(1 for _ in following)
    except InterruptedError as error:
        raise BadCheckpoint(str(error)) from error
    finally:
        located.close()
    context |= {
        "located": {"answers": shown, "network": located.first["network"]},
        "num_answers": num_answers,
        "num_shown": SHOWN,
        "synced": any(answer["synced"] for answer in shown),
        "is_kept": bool(context["text"]),
    }
    return render(request, "locate.html", context)


def _reports(request: HttpRequest) -> bytes:
    """The file that was chosen, else the text, else what was typed."""
    if "file" in request.FILES:
        return request.FILES["file"].read()
    raw = request.POST.get("text", "").encode() or typed_csv(request.POST.dict())
    if not raw.strip():
        raise InvalidInput(
            {"reports": ["Choose a file, paste reports, or give arrivals of three receivers."]}
        )
    return raw


def _sentences(error: Exception) -> list[str]:
    fields = error.fields if isinstance(error, InvalidInput) else {"": [str(error)]}
    return [f"{name}: {' '.join(said)}".strip(": ") for name, said in fields.items()]


def _query(scene: dict[str, Any]) -> str:
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in scene.items()}
    about = {"recipe": RECIPE, "job_name": "my receivers"}
    return urlencode(about | {PREFIX + name: value for name, value in values.items()})


def _file(request: HttpRequest, seen: TrainingJob, wanted: str, located: LocatorProcess) -> HttpResponseBase:
    file = FILES[wanted]
    response = send_pieces(request, file.write(located), file.media_type, located.close)
    response["Content-Disposition"] = f'attachment; filename="job-{seen.pk}-located.{wanted}"'
    return response
