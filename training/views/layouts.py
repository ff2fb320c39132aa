"""Keeping how a person arranged a page: the script of the page asks for it."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from heimdall.errors import InvalidInput
from training import services
from training.views.page import page as shown_page


def layout_context(request: HttpRequest, page: str) -> dict[str, Any]:
    """What a template needs to show the panels that the person chose, and to keep another choice."""
    layout = services.layout_of(request.user, page)
    return {"layout_page": page, "layout": layout, "layout_json": json.dumps(layout)}


@shown_page
@require_POST
def keep(request: HttpRequest, page: str) -> JsonResponse:
    try:
        given = json.loads(request.body)
        services.keep_layout(page, given["panels"], by=request.user)
    except InvalidInput as error:
        return JsonResponse({"message": error.sentences}, status=400)
    except (ValueError, TypeError, KeyError, RecursionError):
        return JsonResponse({"message": 'Send {"panels": [...]} as JSON.'}, status=400)
    return JsonResponse({"kept": True})
