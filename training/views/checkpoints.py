"""The checkpoints of a job: to take away, alone or as a bundle, and to keep."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from training import services
from training.errors import (
    BadCheckpoint,
    StorageUnavailable,
)
from training.models import Checkpoint
from training.presentation import checkpoint_files
from training.store import bundles
from training.views.page import page, visible_checkpoint, visible_job


@page
@require_GET
def download(request: HttpRequest, job_id: int, checkpoint_id: int) -> HttpResponseBase:
    try:
        return checkpoint_files.send(request, _checkpoint(request, job_id, checkpoint_id))
    except (BadCheckpoint, bundles.BadBundle, StorageUnavailable) as error:
        messages.error(request, str(error))
        return redirect("job", job_id)


@page
@require_GET
def bundle(request: HttpRequest, job_id: int, checkpoint_id: int) -> HttpResponseBase:
    """The model with all that belongs to it, to be taken to another Heimdall."""
    row = _checkpoint(request, job_id, checkpoint_id)
    try:
        written = bundles.write(row, settings.SCRATCH_DIR)
    except (BadCheckpoint, StorageUnavailable) as error:
        messages.error(request, str(error))
        return redirect("job", job_id)
    file = written.open("rb")
    size = written.stat().st_size
    written.unlink()  # the open file is all that is needed
    response = checkpoint_files.stream(request, file, 0, size, 200)
    response["Content-Length"] = str(size)
    response["Content-Disposition"] = f'attachment; filename="{bundles.name_of(row)}"'
    return response


@page
@require_POST
def pin(request: HttpRequest, job_id: int, checkpoint_id: int) -> HttpResponse:
    row = _checkpoint(request, job_id, checkpoint_id)
    pinned = request.POST.get("pinned") == "1"
    services.pin(row, by=request.user, pinned=pinned)
    messages.success(
        request, f"The checkpoint at step {row.step} is {'pinned' if pinned else 'no longer pinned'}."
    )
    return redirect(reverse("job", args=[job_id]) + "#checkpoints")


def _checkpoint(request: HttpRequest, job_id: int, checkpoint_id: int) -> Checkpoint:
    return visible_checkpoint(visible_job(request, job_id), checkpoint_id)
