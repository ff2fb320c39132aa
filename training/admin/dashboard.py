"""What unfold puts on the admin's first page. dashboard.js keeps it live, by the pages' own socket."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static

from training.queries.dashboard import dashboard_dict


def show(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    return context | {"live": dashboard_dict(request.user)}


def times(request: HttpRequest) -> str:
    """The script that writes times as the reader's clock shows them."""
    return static("heimdall/admintimes.js")


def icon(request: HttpRequest) -> str:
    """Where the admin finds the pages' own sign."""
    return static("heimdall/favicon.svg")
