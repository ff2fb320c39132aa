"""JSON and nothing else, always valid: a number that is not finite is null."""

from __future__ import annotations

import json
from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer

from heimdall.plain_json import with_nulls


class JsonRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        if data is None:
            return b""
        try:
            return _dump(data, ensure_ascii=False)
        except ValueError:  # not finite, or half of a surrogate pair
            return _dump(with_nulls(data), ensure_ascii=True)


class JsonNegotiation(BaseContentNegotiation):
    """There is one form to answer in, so whatever is asked for, that is it."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return next(iter(parsers), None)

    def select_renderer(
        self, request: Any, renderers: Any, format_suffix: str | None = None
    ) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


def _dump(data: Any, *, ensure_ascii: bool) -> bytes:
    return json.dumps(data, allow_nan=False, ensure_ascii=ensure_ascii, separators=(",", ":")).encode()
