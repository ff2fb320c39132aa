"""Answers of a localization as files, for API and page: JSON, GeoJSON, KML, written while the answers come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from heimdall.recipes.localization.locating import geographic


class LocatedFile(NamedTuple):
    media_type: str
    write: Callable[[Iterable[dict[str, Any]]], Iterator[str]]


def results(answers: Iterable[dict[str, Any]], about: dict[str, Any] | None = None) -> Iterator[str]:
    """One object of JSON, a result a line; `error` says why they end early."""
    head = json.dumps(about or {})[:-1]
    yield f'{head}{", " if about else ""}"results": [\n'
    before, error = "", None
    try:
        for answer in answers:
            yield before + json.dumps(answer)
            before = ",\n"
    except InterruptedError as ended:
        error = str(ended)
    yield f'\n], "error": {json.dumps(error)}}}\n'


FILES = {
    "json": LocatedFile("application/json", results),
    "geojson": LocatedFile("application/geo+json", geographic.geojson),
    "kml": LocatedFile("application/vnd.google-earth.kml+xml", geographic.kml),
}
