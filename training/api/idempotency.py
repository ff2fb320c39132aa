"""The header Idempotency-Key: a POST that is sent again, because its answer was lost, is not done again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from django.utils.crypto import salted_hmac
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from heimdall.errors import InvalidInput
from training import services
from training.models import KEY_LENGTH

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_LENGTH}}}")

PARAMETER = OpenApiParameter(
    HEADER,
    {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH, "pattern": r"^[\x21-\x7e]+$"},
    OpenApiParameter.HEADER,
    description="Any text that no other request of yours has, such as a UUID. The same request with the same key "
    "within a day is answered as the first one was, and nothing is done again.",
)


def answer_once(request: Request, act: Callable[[], Response]) -> Response:
    """The view's answer, given once for each key that a client names."""
    if HEADER not in request.headers:
        return act()
    kept, is_replayed = services.answer_once(
        by=request.user, key=_key(request), request_digest=_digest(request), act=lambda: _packed(act())
    )
    return _response(kept, is_replayed)


def answer_slow_request_once(
    request: Request, act: Callable[[Callable[[Response], Any]], Response]
) -> Response:
    """The same promise for what copies files or asks many jobs; `act` hands on its response to have it kept."""
    if HEADER not in request.headers:
        return act(lambda response: None)
    kept, is_replayed = services.answer_slow_request_once(
        by=request.user,
        key=_key(request),
        request_digest=_digest(request),
        act=lambda keep: _packed(act(lambda response: keep(_packed(response)))),
    )
    return _response(kept, is_replayed)


def refuse_key(request: Request) -> None:
    """For a POST that would be done twice: better refused than taken for safe."""
    if HEADER in request.headers:
        sentence = (
            f"This address takes no {HEADER}: only those that make a job or ask a verb do. Leave it out."
        )
        raise InvalidInput({HEADER: [sentence]})


def _key(request: Request) -> str:
    key = request.headers[HEADER]
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            {HEADER: [f"Give 1 to {KEY_LENGTH} printable ASCII characters without a space, such as a UUID."]}
        )
    return key


def _digest(request: Request) -> str:
    """What is asked: the same words in another order are the same request. It is kept, and a body may hold secrets:
    without the secret key nobody can try which ones they were."""
    body = json.dumps(request.parsed_body, sort_keys=True)
    asked = f"{request.method} {request.path}\n{body}"
    return salted_hmac("heimdall: a request sent twice", asked, algorithm="sha256").hexdigest()


def _response(kept: dict[str, Any], is_replayed: bool) -> Response:
    headers = kept["headers"] | ({REPLAYED: "true"} if is_replayed else {})
    return Response(kept["body"], status=kept["status"], headers=headers)


def _packed(response: Response) -> dict[str, Any]:
    headers = {name: response[name] for name in ("Location",) if name in response}
    return {"status": response.status_code, "headers": headers, "body": response.data}
