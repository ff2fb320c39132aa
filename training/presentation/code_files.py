"""Sending the archive of a program's code. It is small, and is sent through Heimdall wherever it lies."""

from __future__ import annotations

from urllib.parse import quote

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from training.errors import NotFound
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


def send_one(code: CodeArchive, name: str) -> HttpResponse:
    """One of its files. It is other people's: a browser shows it as text, and never as a page."""
    if name not in code.names:
        raise NotFound(f"The code has no file {name[:200]}.")
    response = HttpResponse(store.bytes_of(code, name), content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f"inline; filename*=utf-8''{quote(name.rpartition('/')[2])}"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-transform"
    return response
