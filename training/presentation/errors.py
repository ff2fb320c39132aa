"""One shape for every error that a program reads:
{"error": {"code", "message", "fields"?, "status"?, "stop"?, "verbs"?}}.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse

from training import errors

DATABASE_IS_AWAY = "The database is busy; try again."


def body(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message} | more}


def describe(error: errors.HeimdallError) -> dict[str, Any]:
    """The error shape of one of our own errors; the commands print it too."""
    more: dict[str, Any] = {}
    if isinstance(error, errors.InvalidInput):
        more["fields"] = error.fields
    if isinstance(error, errors.TransitionRefused):
        more["status"] = error.status or None
        more["stop"] = stop_shape(error.stop, error.stop_at)
        more["verbs"] = [str(verb) for verb in error.verbs]
    return body(error.code, str(error), **more)


def answer_400(request: HttpRequest, exception: Exception) -> JsonResponse:
    return JsonResponse(body("invalid", "The request cannot be read."), status=400)


def answer_500() -> JsonResponse:
    return JsonResponse(body("server_error", "Internal error; the server's log says more."), status=500)


def answer_503() -> JsonResponse:
    return JsonResponse(
        body("database_unavailable", DATABASE_IS_AWAY), status=503, headers={"Retry-After": "1"}
    )


def stop_shape(kind: str, at: str) -> dict[str, str] | None:
    """A stop request as the API shows it: null, or what is asked and when it takes effect."""
    return {"kind": str(kind), "at": str(at)} if kind else None
