"""The page where a completed localization is asked where transmitters are."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from heimdall.recipes.localization.locating import geographic
from training import services
from training.errors import BadCheckpoint, InvalidInput, LocatorBusy, StorageUnavailable, TransitionRefused
from training.models import TrainingJob
from training.presentation.job_forms import PREFIX
from training.presentation.report_rows import COLUMNS, rows_of, typed_csv
from training.views.page import page, visible_job

SHOWN = 100
"""Answers on the page; files hold all of them."""
REFUSED = (BadCheckpoint, InvalidInput, LocatorBusy, StorageUnavailable, TransitionRefused)
EXAMPLE = (
    "transmission,receiver,arrival_ns,error_ns,snr_db,rss_dbm\n"
    "evening 1,Torino,1042,110,18.5,-104\n"
    "evening 1,Genova,0,104,24.0,-99\n"
)


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
            fields = error.fields if isinstance(error, InvalidInput) else {"": [str(error)]}
            context |= {"errors": [f"{name}: {' '.join(said)}".strip(": ") for name, said in fields.items()]}
    return render(request, "locate.html", context, status=400 if "errors" in context else 200)


def _context(request: HttpRequest, seen: TrainingJob) -> dict[str, Any]:
    return {
        "section": "jobs",
        "job": seen,
        "can_locate": services.can_locate(seen),
        "columns": [label for _, label in COLUMNS],
        "rows": rows_of(seen, request.POST.dict()),
        "text": request.POST.get("text", ""),
        "example": EXAMPLE,
        "tiles": settings.MAP_TILES,
        "tiles_by": settings.MAP_TILES_BY,
    }


def _answered(request: HttpRequest, seen: TrainingJob, context: dict[str, Any]) -> HttpResponse:
    raw = _reports(request)
    wanted = request.POST.get("wanted", "page")
    if wanted == "training":
        config = services.suggest_config(seen, by=request.user, reports=raw)
        return redirect(f"{reverse('job-new')}?{_query(seen, config)}")
    located = services.locate(seen, by=request.user, reports=raw)
    try:
        answers = list(located)
    except InterruptedError as error:
        raise BadCheckpoint(str(error)) from error
    finally:
        located.close()
    if wanted in _FILES:
        return _file(seen, wanted, answers)
    shown = {"answers": answers[:SHOWN], "network": located.first["network"]}
    context |= {"located": shown, "num_answers": len(answers), "num_shown": SHOWN}
    # What was sent stands in the text, so that the files of its answers can be asked for without choosing it again.
    context["text"] = raw.decode("utf-8-sig", "replace")
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


def _query(seen: TrainingJob, config: dict[str, Any]) -> str:
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in config.items()}
    about = {"recipe": seen.recipe, "job_name": "my receivers"}
    return urlencode(about | {PREFIX + name: value for name, value in values.items()})


_FILES = {
    "geojson": ("application/geo+json", lambda answers: json.dumps(geographic.geojson(answers))),
    "kml": ("application/vnd.google-earth.kml+xml", geographic.kml),
    "json": ("application/json", json.dumps),
}


def _file(seen: TrainingJob, wanted: str, answers: list[dict[str, Any]]) -> HttpResponse:
    media_type, write = _FILES[wanted]
    name = f"job-{seen.pk}-located.{wanted}"
    return HttpResponse(
        write(answers),
        content_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
