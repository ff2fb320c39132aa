"""Reading the body of a request: bounded, UTF-8 JSON, an object, and nothing in it that a database refuses."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from training.api.errors import TooLarge

MAX_DEPTH = 32
MAX_NAMES = 2_000  # of all objects in a body; the largest config of a shipped recipe has some hundred


class UnparsedBody(BaseParser):
    """Keeps DRF from reading the body by its own rules: a session's CSRF check asks for the form fields."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        return {}


class AnyBody(UnparsedBody):
    """Nobody parses it: it is read as it comes."""

    media_type = "*/*"


def read_object(request: Request, most_names: int = MAX_NAMES) -> dict[str, Any]:
    """The body as an object; an absent body is an empty one. The declared length is not trusted."""
    is_json = request.content_type.partition(";")[0].strip().lower() == "application/json"
    raw = _read(request) if is_json or not _declares_a_body(request) else b"?"
    if not raw:
        return {}
    if not is_json:
        declared = request.content_type[:100] or "nothing"
        raise UnsupportedMediaType(declared, f"Send the body as application/json, not as {declared}.")
    value = _decode(raw, most_names)
    if not isinstance(value, dict):
        raise ParseError(f"The body must be an object, like {{}}, not {_kind(value)}.")
    _look_through(value)
    return value


def _declares_a_body(request: Request) -> bool:
    """Whether there is a body, as far as its length says: the body of a form may have been read already."""
    return request.META.get("CONTENT_LENGTH") not in {None, "", "0"}


def _read(request: Request) -> bytes:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    raw = request._request.read(limit + 1)
    if len(raw) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    return raw


def _decode(raw: bytes, most_names: int) -> Any:
    try:
        return json.loads(
            raw.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_Names(most_names).take
        )
    except RecursionError:
        raise ParseError(f"The body is nested more than {MAX_DEPTH} deep.") from None
    except UnicodeDecodeError:
        raise ParseError("The body is not UTF-8.") from None
    except ValueError as error:
        raise ParseError(f"The body is not JSON: {str(error)[:200]}.") from None


class _Names:
    """Builds the objects of one body: each name once in its object, and no more in all than anybody needs."""

    def __init__(self, most: int) -> None:
        self._left = self._most = most

    def take(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._left -= len(pairs)
        if self._left < 0:
            raise ParseError(f"The body holds more than {self._most:,} names of fields. Send fewer.")
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice in one object")
        return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _look_through(value: Any) -> None:
    """Refuse depth, NUL and lone surrogates, without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ParseError(f"The body is nested more than {MAX_DEPTH} deep.")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _look_at(item)
            elif isinstance(item, dict):
                inner.extend(item)
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner


def _look_at(text: str) -> None:
    if "\x00" in text:
        raise ParseError("The body holds a NUL character.")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ParseError("The body holds half of a surrogate pair.")


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )
