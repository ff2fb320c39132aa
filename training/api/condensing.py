"""Answers that need not be sent again, nor in full: ETag and 304, gzip.

Only what is read: secrets are shown in answers that make them, and a compressed length would tell of them. Files go
their own way, with ranges.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

SMALLEST_WORTH_IT = 1_000
_ZERO = re.compile(r";\s*q=0(\.0*)?\s*$")


def condense(request: Request, response: Response) -> None:
    """Done once the answer is rendered."""

    def finish(rendered: Response) -> None:
        if request.method not in {"GET", "HEAD"} or rendered.status_code != 200 or not rendered.content:
            return
        rendered.headers.setdefault("ETag", f'W/"{hashlib.sha256(rendered.content).hexdigest()[:32]}"')
        if _is_known(request.headers.get("If-None-Match", ""), rendered["ETag"]):
            rendered.status_code = 304
            rendered.content = b""
            del rendered.headers["Content-Type"]
        elif len(rendered.content) >= SMALLEST_WORTH_IT and _takes_gzip(request):
            _compress(rendered)

    response.add_post_render_callback(finish)


def tags_in(header: str) -> list[str]:
    """The tags of If-Match or If-None-Match, weak or not: gzip makes a weak one of the same answer."""
    return [tag.strip().removeprefix("W/") for tag in header.split(",") if tag.strip()]


def _is_known(header: str, tag: str) -> bool:
    return header.strip() == "*" or tag.removeprefix("W/") in tags_in(header)


def _takes_gzip(request: Request) -> bool:
    named = request.headers.get("Accept-Encoding", "").lower().split(",")
    return any(one.strip().startswith("gzip") and not _ZERO.search(one) for one in named)


def _compress(response: Any) -> None:
    response.content = gzip.compress(response.content, compresslevel=5, mtime=0)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.content))
    response.headers["Vary"] = ", ".join(filter(None, [response.headers.get("Vary", ""), "Accept-Encoding"]))
    if not response["ETag"].startswith("W/"):
        response.headers["ETag"] = f"W/{response['ETag']}"
