"""The few fields in which a person types what receivers reported, as the CSV that files have."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.models import Dataset, TrainingJob

COLUMNS = (
    ("receiver", "Receiver"),
    ("latitude", "Latitude"),
    ("longitude", "Longitude"),
    ("altitude_m", "Altitude, m"),
    ("arrival_ns", "Arrival, ns"),
    ("error_ns", "Error, ns"),
    ("snr_db", "SNR, dB"),
    ("rss_dbm", "RSS, dBm"),
    ("frequency_offset_hz", "Offset, Hz"),
)
MOST_ROWS = 15
_SPARE_ROWS = 2
_OF_THE_PLACE = ("receiver", "latitude", "longitude", "altitude_m")


@dataclass
class ReportCell:
    name: str
    label: str
    value: str


@dataclass
class ReportRow:
    cells: list[ReportCell] = field(default_factory=list)


def rows_of(job: TrainingJob, given: Mapping[str, str]) -> list[ReportRow]:
    """The receivers of the training, and some rows for others; with what was typed before."""
    receivers = _receivers(job)
    count = min(len(receivers) + _SPARE_ROWS, MOST_ROWS)
    known = [*receivers, *({} for _ in range(count - len(receivers)))]
    return [
        ReportRow(
            [
                ReportCell(
                    _name(number, column), label, given.get(_name(number, column), _text(place, column))
                )
                for column, label in COLUMNS
            ]
        )
        for number, place in enumerate(known)
    ]


def typed_csv(given: Mapping[str, str]) -> bytes:
    """Rows with a time of arrival; nothing where there are none."""
    names = [column for column, _ in COLUMNS]
    rows = [[given.get(_name(number, name), "").strip() for name in names] for number in range(MOST_ROWS)]
    reported = [row for row in rows if row[names.index("arrival_ns")]]
    if not reported:
        return b""
    text = io.StringIO()
    csv.writer(text).writerows([names, *reported])
    return text.getvalue().encode()


def _receivers(job: TrainingJob) -> list[dict[str, Any]]:
    name = job.config.get("dataset")
    config = job.config
    if name:
        row = Dataset.objects.filter(name=name).first()
        config = row.config if row else {}
    found = config.get("receivers")
    return found if isinstance(found, list) else []


def _name(number: int, column: str) -> str:
    return f"row{number}.{column}"


def _text(place: Mapping[str, Any], column: str) -> str:
    value = place.get(column if column != "receiver" else "name", "") if column in _OF_THE_PLACE else ""
    return str(value)
