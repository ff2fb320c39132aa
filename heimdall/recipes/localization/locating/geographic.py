"""Answers as GeoJSON (RFC 7946) and as KML, for maps elsewhere."""

from collections.abc import Iterable, Iterator
from typing import Any
from xml.sax.saxutils import escape


def geojson(answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    features = [feature for answer in answers for feature in _features(answer)]
    return {"type": "FeatureCollection", "features": features}


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


def kml(answers: Iterable[dict[str, Any]]) -> str:
    """A folder for each transmission, and one for all receivers."""
    answers = list(answers)
    receivers = {one["receiver"]: one for answer in answers for one in answer["receivers"]}
    folders = [_folder(answer["transmission"], _placemarks(answer)) for answer in answers]
    folders.append(_folder("Receivers", [_mark(name, "", one) for name, one in receivers.items()]))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
        "<name>Located transmissions</name>\n"
        '<Style id="ellipse"><LineStyle><width>2</width></LineStyle><PolyStyle><fill>0</fill></PolyStyle></Style>\n'
        f"{''.join(folders)}</Document></kml>\n"
    )


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
