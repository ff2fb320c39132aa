"""CSV and JSON as rows of named values, each with the place that a refusal names."""

import csv
import difflib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from heimdall.errors import InvalidInput

FIELDS = (
    "transmission", "receiver", "latitude", "longitude", "altitude_m", "arrival_ns", "time_utc", "error_ns", "snr_db",
    "rss_dbm", "frequency_offset_hz", "detected", "known_latitude", "known_longitude", "known_altitude_m",
    "frequency_mhz", "bandwidth_khz",
)  # fmt: skip
OTHER_NAMES = {
    "name": "receiver", "lat": "latitude", "lon": "longitude", "lng": "longitude", "alt": "altitude_m",
    "altitude": "altitude_m", "time": "time_utc", "snr": "snr_db", "rss": "rss_dbm", "sigma_ns": "error_ns",
    "offset_hz": "frequency_offset_hz",
}  # fmt: skip
MOST_LINES = 100_000
_SEPARATORS = ",;\t"


class BadReports(InvalidInput):
    """A file of reports was refused; the message names line and field."""

    code = "bad_reports"

    def __init__(self, place: str, message: str) -> None:
        super().__init__({place: [message]})


class TableRow(NamedTuple):
    place: str
    """Such as `line 3`."""
    values: Mapping[str, Any]


def rows_of(raw: bytes) -> Iterator[TableRow]:
    """JSON where it begins like it, else CSV with a header."""
    text = _text(raw)
    beginning = text.lstrip()[:1]
    if not beginning:
        raise BadReports("reports", "There is nothing in it. Send one line for each receiver.")
    found = _json_rows(text) if beginning in "[{" else _csv_rows(text)
    for number, row in enumerate(found):
        if number >= MOST_LINES:
            raise BadReports(row.place, f"There are more than {MOST_LINES} reports. Divide them into files.")
        yield row


def _text(raw: bytes) -> str:
    if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise BadReports("reports", "This is UTF-16. Save it as UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadReports(f"line {line}", "This is not UTF-8. Save the file as UTF-8.") from None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise BadReports(f"line {line}", "There is a NUL character. Is this a file of text?")
    return text


def _csv_rows(text: str) -> Iterator[TableRow]:
    first = next(line for line in text.splitlines() if line.strip())
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=separator, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            place = f"line {reader.line_num}"
            if not header:
                header = _header(place, cells)
                continue
            _refuse_other_length(place, cells, header, separator)
            yield TableRow(
                place, {name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()}
            )
    except csv.Error as error:
        raise BadReports(f"line {reader.line_num}", f"This is no line of CSV: {error}.") from None


def _header(place: str, cells: list[str]) -> list[str]:
    header = [_field(place, cell) for cell in cells]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice:
        raise BadReports(f"{place}, {twice}", "This column stands twice in the header.")
    return header


def _field(place: str, cell: str) -> str:
    name = cell.strip().lower().replace(" ", "_")
    name = OTHER_NAMES.get(name, name)
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, 1)
        meant = f"Did you mean {near[0]}?" if near else f"The columns are: {', '.join(FIELDS)}."
        raise BadReports(f"{place}, {cell.strip()[:40] or 'a column'}", f"There is no such column. {meant}")
    return name


def _refuse_other_length(place: str, cells: list[str], header: list[str], separator: str) -> None:
    if len(cells) == len(header):
        return
    why = ""
    if separator == "," and len(cells) > len(header):
        why = " If a comma is a decimal sign here, write a point."
    raise BadReports(place, f"It has {len(cells)} fields and the header has {len(header)}.{why}")


def _json_rows(text: str) -> Iterator[TableRow]:
    try:
        found = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadReports("reports", "The JSON is nested too deep.") from None
    except json.JSONDecodeError as error:
        raise BadReports(f"line {error.lineno}", f"This is not JSON: {error.msg}.") from None
    except ValueError as error:
        raise BadReports("reports", f"This is not JSON: {error}.") from None
    reports = found.get("reports") if isinstance(found, dict) and set(found) == {"reports"} else found
    if not isinstance(reports, list):
        raise BadReports("reports", 'Send a list of reports, or {"reports": [...]}, each report an object.')
    for number, report in enumerate(reports, start=1):
        place = f"report {number}"
        if not isinstance(report, dict):
            raise BadReports(place, "A report is an object with the fields of a receiver.")
        named = {_field(place, name): value for name, value in report.items() if value is not None}
        yield TableRow(place, named)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")
