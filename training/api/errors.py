"""Which status and which body each exception becomes in the API; presentation/errors.py has the body's shape."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from heimdall.errors import sentence_of
from training import errors
from training.presentation.errors import DATABASE_IS_AWAY, body, describe
from training.store.code import BadCode
from training.store.datasets import BadDataset

logger = logging.getLogger(__name__)

STATUS_OF: dict[type[errors.HeimdallError], int] = {
    errors.InvalidInput: 400,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.TransitionRefused: 409,
    errors.StaleAttempt: 409,
    errors.EditedMeanwhile: 412,
    errors.KeyReused: 422,
    errors.RequestInProgress: 409,
    errors.BadCheckpoint: 410,
    errors.NoGoodCheckpoint: 410,
    BadDataset: 410,
    BadCode: 410,
    errors.StorageUnavailable: 503,
    errors.LocatorBusy: 503,
    errors.SuggestionFailed: 503,
}
CODE_OF_STATUS = {
    400: "invalid",
    401: "not_authenticated",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "throttled",
    500: "server_error",
}


class TooLarge(exceptions.APIException):
    status_code = 413
    default_code = "too_large"


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None for a mistake of our own: Django logs it and `answer_500` answers."""
    if isinstance(error, errors.HeimdallError):
        return _ours(error)
    if isinstance(error, exceptions.APIException):
        return _drf(error)
    if isinstance(error, Http404):
        return _answer(404, "not_found", str(error) or "Not found.")
    if isinstance(error, PermissionDenied):
        return _answer(403, "not_allowed", str(error) or "You may not do this.")
    if isinstance(error, RequestDataTooBig):
        return _answer(413, "too_large", "The body of the request is too large.")
    if isinstance(error, SuspiciousOperation):
        return _answer(400, "invalid", "The request cannot be read.")
    if isinstance(error, OperationalError):
        logger.error("The database did not answer a request: %s", error)
        return _answer(503, "database_unavailable", DATABASE_IS_AWAY, retry_after=1)
    return None


def _ours(error: errors.HeimdallError) -> Response:
    status = next((STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF), 400)
    response = Response(describe(error), status=status)
    if status == 503 or isinstance(error, errors.RequestInProgress):
        response["Retry-After"] = "5"
    return response


def _drf(error: exceptions.APIException) -> Response:
    status = error.status_code
    code = CODE_OF_STATUS.get(status, error.default_code)
    if isinstance(error, exceptions.ValidationError):
        fields = flatten(error.detail)
        return _answer(400, code, sentence_of(fields), fields=fields)
    if isinstance(error, exceptions.ParseError):
        code = "unreadable"
    response = _answer(status, code, str(error.detail))
    if getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = error.auth_header
    if getattr(error, "wait", None) is not None:
        response["Retry-After"] = str(max(1, round(error.wait)))
    return response


def flatten(detail: Any, name: str = "") -> dict[str, list[str]]:
    """DRF's nested details as {"field.inner": [sentences]}."""
    if isinstance(detail, dict):
        found: dict[str, list[str]] = {}
        for key, inner in detail.items():
            found |= flatten(inner, f"{name}.{key}" if name else str(key))
        return found
    texts = detail if isinstance(detail, list) else [detail]
    return {name or "body": [str(text) for text in texts]}


def _answer(status: int, code: str, message: str, *, retry_after: int | None = None, **more: Any) -> Response:
    response = Response(body(code, message, **more), status=status)
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response
