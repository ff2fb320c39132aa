"""Answers as GeoJSON (RFC 7946) and as KML, for maps elsewhere: text that can be sent while it grows."""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from xml.sax.saxutils import escape


def geojson(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Piece by piece, as the answers come; `error` says why they end early."""
    yield '{"type": "FeatureCollection", "features": ['
    before, error = "\n", None
    try:
        for answer in answers:
            for feature in _features(answer):
                yield before + json.dumps(feature)
                before = ",\n"
    except InterruptedError as ended:
        error = str(ended)
    yield f'\n], "error": {json.dumps(error)}}}\n'


def _features(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name = answer["transmission"]
    about = {"transmission": name, "status": answer["status"], "by": answer["by"]}
    if answer["position"] is not None:
        yield _feature(
            "Point", _point(answer["position"]), about | {"what": "position", "notes": answer["notes"]}
        )
    for one in answer["ellipses"]:
        sizes = {key: value for key, value in one.items() if key != "ring"}
        yield _feature("Polygon", [one["ring"]], about | {"what": "ellipse"} | sizes)
    for other in answer["others"]:
        yield _feature(
            "Point", _point(other), about | {"what": "other position", "likelihood": other["likelihood"]}
        )
    for receiver in answer["receivers"]:
        said = {key: receiver[key] for key in ("receiver", "used", "residual_ns", "late_probability")}
        yield _feature("Point", _point(receiver), {"transmission": name, "what": "receiver"} | said)


def _feature(kind: str, coordinates: Any, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": properties,
    }


def _point(place: dict[str, Any]) -> list[float]:
    return [place["longitude"], place["latitude"]]


def kml(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Piece by piece: a folder for each transmission, one for all receivers, and one that says why they end early."""
    receivers: dict[str, dict[str, Any]] = {}
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
        "<name>Located transmissions</name>\n"
        '<Style id="ellipse"><LineStyle><width>2</width></LineStyle><PolyStyle><fill>0</fill></PolyStyle></Style>\n'
    )
    error = ""
    try:
        for answer in answers:
            receivers |= {one["receiver"]: one for one in answer["receivers"]}
            yield _folder(answer["transmission"], _placemarks(answer))
    except InterruptedError as ended:
        error = _folder(str(ended), ())
    yield _folder("Receivers", [_mark(name, "", one) for name, one in receivers.items()])
    yield f"{error}</Document></kml>\n"


def _folder(name: str, marks: Iterable[str]) -> str:
    return f"<Folder><name>{escape(name)}</name>\n{''.join(marks)}</Folder>\n"


def _placemarks(answer: dict[str, Any]) -> Iterator[str]:
    notes = " ".join([f"Status: {answer['status']}.", *answer["notes"]])
    if answer["position"] is not None:
        yield _mark(answer["transmission"], notes, answer["position"])
    for one in answer["ellipses"]:
        corners = " ".join(f"{longitude},{latitude}" for longitude, latitude in one["ring"])
        yield (
            f"<Placemark><name>{100 * one['share']:.0f} %</name><styleUrl>#ellipse</styleUrl><Polygon>"
            f"<outerBoundaryIs><LinearRing><coordinates>{corners}</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>\n"
        )
    for other in answer["others"]:
        yield _mark(f"{answer['transmission']}, another place", "It explains the arrivals as well.", other)


def _mark(name: str, about: str, place: dict[str, Any]) -> str:
    return (
        f"<Placemark><name>{escape(name)}</name><description>{escape(about)}</description><Point><coordinates>"
        f"{place['longitude']},{place['latitude']}</coordinates></Point></Placemark>\n"
    )
