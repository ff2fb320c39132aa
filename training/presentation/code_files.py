"""Sending the archive of a program's code. It is small, and is sent through Heimdall wherever it lies."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from training.models import CodeArchive
from training.presentation import checkpoint_files
from training.store import code as store

MEDIA_TYPE = "application/gzip"


def send(request: HttpRequest, code: CodeArchive) -> HttpResponseBase:
    file = store.open_for_download(code)
    response = checkpoint_files.stream(request, file, 0, code.file_size, 200)
    response["Content-Type"] = MEDIA_TYPE
    response["Content-Length"] = str(code.file_size)
    response["Content-Disposition"] = f'attachment; filename="code-{code.digest[:12]}.tar.gz"'
    response["X-Code-Digest"] = code.digest
    response["Cache-Control"] = "private, no-transform"
    return response
