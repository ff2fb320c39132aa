"""Reports of receivers, grouped into transmissions and checked: whoever is wrong is told line and field."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from statistics import median
from typing import Any

from pydantic import ValidationError

from heimdall.recipes.localization.locating import values
from heimdall.recipes.localization.locating.geodesy import distance_km
from heimdall.recipes.localization.locating.tables import BadReports, TableRow, rows_of
from heimdall.recipes.localization.settings import FIELD_DEGREES, MAX_RECEIVERS, RadioSettings, Receiver

UNNAMED = "transmission 1"
SAME_PLACE_KM = 0.05
_NEAR_KM = 300.0  # of a network that reports may belong to
_FAR_KM = 500.0
_KM_PER_DEGREE = 111.0
_NUMBERS = {
    "error_ns": (0.1, 1e9),
    "snr_db": (-100.0, 200.0),
    "rss_dbm": (-250.0, 100.0),
    "frequency_offset_hz": (-1e9, 1e9),
    "frequency_mhz": (0.5, 3000.0),
    "bandwidth_khz": (0.1, 10_000.0),
}
_PLACE = {"latitude": (-80.0, 80.0), "longitude": (-180.0, 180.0), "altitude_m": (-400.0, 9000.0)}
_LATEST_NS = 1e19  # later than any clock in nanoseconds since 1970


@dataclass(frozen=True)
class ReceiverReport:
    """What one receiver says of one transmission."""

    receiver: Receiver
    place: str
    """Where in the file, for messages."""
    detected: bool
    arrival_ns: float = 0.0
    """Later than the first arrival of the transmission by so much."""
    error_ns: float | None = None
    snr_db: float | None = None
    rss_dbm: float | None = None
    frequency_offset_hz: float | None = None
    frequency_mhz: float | None = None
    bandwidth_khz: float | None = None


@dataclass(frozen=True)
class Transmission:
    name: str
    reports: tuple[ReceiverReport, ...]
    known: Receiver | None = None
    """Where it was sent from, where that is known: a beacon."""


@dataclass
class _OpenTransmission:
    name: str
    reports: list[ReceiverReport] = field(default_factory=list)
    arrivals: list[Decimal | None] = field(default_factory=list)
    clock: str = ""
    known: Receiver | None = None


def read(raw: bytes, settings: RadioSettings) -> list[Transmission]:
    """settings: those of the trained network; its receivers may be named without saying where they stand.

    Raises BadReports.
    """
    reader = _Reader(settings)
    for row in rows_of(raw):
        reader.take(row)
    if not reader.groups:
        raise BadReports("reports", "There is a header and no report. Send one line for each receiver.")
    for group in reader.groups.values():
        _refuse_what_lies_apart(group.reports)
    reader.refuse_if_all_are_swapped()
    return [_transmission(group) for group in reader.groups.values()]


def receivers_of(transmissions: Iterable[Transmission]) -> tuple[Receiver, ...]:
    """All receivers that are named, each once, in the order of the file."""
    found = {one.receiver.name: one.receiver for sent in transmissions for one in sent.reports}
    return tuple(found.values())


class _Reader:
    def __init__(self, settings: RadioSettings) -> None:
        self.groups: dict[str, _OpenTransmission] = {}
        self._ground_m = settings.ground_altitude_m
        self._trained = {receiver.name.casefold(): receiver for receiver in settings.receivers}
        self._places: dict[str, tuple[Receiver, str]] = {}

    def take(self, row: TableRow) -> None:
        group = self._group(row)
        receiver = self._receiver(row)
        if any(one.receiver.name == receiver.name for one in group.reports):
            raise BadReports(
                f"{row.place}, receiver",
                f"{receiver.name} reports twice of {group.name}. Name each transmission.",
            )
        if len(group.reports) == MAX_RECEIVERS:
            raise BadReports(row.place, f"{group.name} has more than {MAX_RECEIVERS} receivers.")
        arrival = _arrival(row, group)
        detected = arrival is not None
        if "detected" in row.values:
            detected = _checked(row, "detected", values.flag)
        if detected and arrival is None:
            raise BadReports(
                f"{row.place}, arrival_ns", "It is missing. Give arrival_ns or time_utc, or detected = false."
            )
        given = {name: _number(row, name, *bounds) for name, bounds in _NUMBERS.items() if name in row.values}
        group.reports.append(ReceiverReport(receiver, row.place, detected, **given))
        group.arrivals.append(arrival if detected else None)

    def _group(self, row: TableRow) -> _OpenTransmission:
        name = _checked(row, "transmission", values.name) if "transmission" in row.values else UNNAMED
        group = self.groups.setdefault(name, _OpenTransmission(name))
        known = _known(row, self._ground_m)
        if known is not None and group.known not in {None, known}:
            raise BadReports(
                f"{row.place}, known_latitude", f"{name} was sent from elsewhere in a line before."
            )
        group.known = group.known or known
        return group

    def _receiver(self, row: TableRow) -> Receiver:
        if "receiver" not in row.values:
            raise BadReports(f"{row.place}, receiver", "It is missing. Give each receiver a name.")
        name = _checked(row, "receiver", values.name)
        trained = self._trained.get(name.casefold())
        before = self._places.get(name)
        if not {"latitude", "longitude"} & set(row.values):
            return self._named(row, name, before[0] if before else trained)
        given = self._given(row, name, before[0] if before else trained)
        if before and before[0] != given and _apart_km(before[0], given) > SAME_PLACE_KM:
            raise BadReports(f"{row.place}, latitude", f"{name} stood elsewhere in {before[1]}.")
        if trained:
            _refuse_swapped_with(row, given, trained)
        self._places.setdefault(name, (given, row.place))
        return self._places[name][0]

    def _named(self, row: TableRow, name: str, known: Receiver | None) -> Receiver:
        if known is None:
            names = ", ".join(receiver.name for receiver in self._trained.values())
            raise BadReports(
                f"{row.place}, latitude",
                f"It is missing, and {values.shown(name)} is none of the receivers of the training ({names}).",
            )
        return known

    def _given(self, row: TableRow, name: str, known: Receiver | None) -> Receiver:
        place = {one: _number(row, one, *_PLACE[one]) for one in ("latitude", "longitude")}
        if "altitude_m" in row.values:
            altitude = _number(row, "altitude_m", *_PLACE["altitude_m"])
        else:
            altitude = known.altitude_m if known else self._ground_m
        return Receiver(name=name, **place, altitude_m=altitude)

    def refuse_if_all_are_swapped(self) -> None:
        """With names of their own nobody knows where receivers stand; but a network a world away looks odd."""
        if len(self._places) < 3:
            return
        trained = _middle(self._trained.values())
        found = _middle(receiver for receiver, _ in self._places.values())
        swapped = found[1], found[0]
        if distance_km(found, trained) > _FAR_KM and distance_km(swapped, trained) < _NEAR_KM:
            place = next(iter(self._places.values()))[1]
            raise BadReports(
                f"{place}, latitude",
                "The receivers stand a world away from those of the training, and near them with latitude and "
                "longitude exchanged. Exchange the columns.",
            )


def _transmission(group: _OpenTransmission) -> Transmission:
    heard = [arrival for arrival in group.arrivals if arrival is not None]
    first = min(heard, default=Decimal(0))
    reports = [
        replace(report, arrival_ns=float(arrival - first)) if arrival is not None else report
        for report, arrival in zip(group.reports, group.arrivals, strict=True)
    ]
    return Transmission(group.name, tuple(reports), group.known)


def _arrival(row: TableRow, group: _OpenTransmission) -> Decimal | None:
    given = [name for name in ("arrival_ns", "time_utc") if name in row.values]
    if not given:
        return None
    if len(given) == 2 or group.clock not in {"", given[0]}:
        raise BadReports(
            f"{row.place}, {given[-1]}", f"{group.name} has arrival_ns and time_utc. Give one of the two."
        )
    group.clock = given[0]
    if group.clock == "time_utc":
        return _checked(row, "time_utc", values.utc_ns)
    return _checked(row, "arrival_ns", lambda value: values.exact(value, -_LATEST_NS, _LATEST_NS))


def _known(row: TableRow, ground_m: float) -> Receiver | None:
    given = [name for name in ("known_latitude", "known_longitude") if name in row.values]
    if not given:
        if "known_altitude_m" in row.values:
            raise BadReports(
                f"{row.place}, known_latitude", "A known position has a latitude and a longitude."
            )
        return None
    place = {name: _number(row, f"known_{name}", *_PLACE[name]) for name in ("latitude", "longitude")}
    altitude = ground_m
    if "known_altitude_m" in row.values:
        altitude = _number(row, "known_altitude_m", *_PLACE["altitude_m"])
    return Receiver(name="known position", **place, altitude_m=altitude)


def _number(row: TableRow, name: str, low: float, high: float) -> float:
    if name not in row.values:
        raise BadReports(f"{row.place}, {name}", "It is missing.")
    return float(_checked(row, name, lambda value: values.number(value, low, high)))


def _checked(row: TableRow, name: str, read: Any) -> Any:
    try:
        return read(row.values[name])
    except (ValueError, ValidationError) as error:
        hint = ""
        if name.endswith("latitude") and "not between" in str(error):
            hint = " Are latitude and longitude exchanged?"
        raise BadReports(f"{row.place}, {name}", f"{error}{hint}") from None


def _refuse_swapped_with(row: TableRow, given: Receiver, trained: Receiver) -> None:
    off = abs(given.latitude - trained.latitude) + abs(given.longitude - trained.longitude)
    exchanged = abs(given.longitude - trained.latitude) + abs(given.latitude - trained.longitude)
    if off > FIELD_DEGREES and exchanged < 0.1:
        raise BadReports(
            f"{row.place}, latitude",
            f"{given.name} stands at latitude {trained.latitude:g} and longitude {trained.longitude:g} in the "
            "training: latitude and longitude are exchanged.",
        )


def _refuse_what_lies_apart(reports: list[ReceiverReport]) -> None:
    """One wrong degree makes a network a thousand kilometres wide."""
    middle = _middle(report.receiver for report in reports)
    for report in reports:
        place = report.receiver.latitude, report.receiver.longitude
        off_degrees = max(abs(here - there) for here, there in zip(place, middle, strict=True))
        if off_degrees > FIELD_DEGREES:
            swapped = place[1], place[0]
            near = distance_km(swapped, middle) < FIELD_DEGREES * _KM_PER_DEGREE
            why = "Its latitude and longitude seem exchanged." if near else "Is a degree wrong?"
            far = distance_km(place, middle)
            raise BadReports(
                f"{report.place}, latitude",
                f"{report.receiver.name} stands {far:.0f} km from the middle of the other receivers. {why}",
            )


def _middle(receivers: Iterable[Receiver]) -> tuple[float, float]:
    places = [(receiver.latitude, receiver.longitude) for receiver in receivers]
    return median(place[0] for place in places), median(place[1] for place in places)


def _apart_km(one: Receiver, other: Receiver) -> float:
    return distance_km((one.latitude, one.longitude), (other.latitude, other.longitude))
