"""Clock offsets of receivers, from transmissions whose position is known.

A beacon's arrival less its way is the receiver's clock and the moment of sending. The moments are unknown, so offsets
are known up to one number that all receivers share, and that no position depends on; their weighted mean is taken to
be zero. A clock that drifts between beacon and transmission is not seen.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.locating.geodesy import to_space
from heimdall.recipes.localization.locating.reports import ReceiverReport, Transmission
from heimdall.recipes.localization.measurement import KM_PER_NS
from heimdall.recipes.localization.settings import Receiver

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClockOffset:
    offset_ns: float
    """By which this clock is ahead of the receivers' mean."""
    error_ns: float


def clock_offsets(
    beacons: Iterable[Transmission], error_ns: Callable[[ReceiverReport], float]
) -> dict[str, ClockOffset]:
    """By the receivers' names; weighted least squares over all beacons, whose moments of sending are unknown too."""
    heard = [
        (
            number,
            report.receiver.name,
            report.arrival_ns - _way_ns(beacon.known, report.receiver),
            error_ns(report),
        )
        for number, beacon in enumerate(beacons)
        for report in beacon.reports
        if report.detected and beacon.known is not None
    ]
    names = list(dict.fromkeys(name for _, name, _, _ in heard))
    if len(names) < 2:
        return {}
    rows = np.array([names.index(name) for _, name, _, _ in heard])
    moments = np.array([number for number, _, _, _ in heard])
    late = np.array([value for _, _, value, _ in heard])
    weights = np.array([error for _, _, _, error in heard]) ** -2.0
    offsets, errors = _solved(rows, moments, late, weights, len(names))
    return {
        name: ClockOffset(float(offset), float(error))
        for name, offset, error in zip(names, offsets, errors, strict=True)
    }


def _solved(
    rows: NDArray, moments: NDArray, late: Floats, weights: Floats, count: int
) -> tuple[Floats, Floats]:
    """late = offset of the receiver + moment of the beacon + noise; the shared number by the least norm."""
    columns = np.zeros((len(late), count + moments.max() + 1))
    columns[np.arange(len(late)), rows] = 1.0
    columns[np.arange(len(late)), count + moments] = 1.0
    middles = [
        np.mean(late[moments == number]) if np.any(moments == number) else 0.0
        for number in range(moments.max() + 1)
    ]
    root = np.sqrt(weights)
    # The moments may be large; what is solved for is what is left beside each beacon's mean.
    solved, *_ = np.linalg.lstsq(
        root[:, None] * columns, root * (late - np.array(middles)[moments]), rcond=None
    )
    variances = np.array([1.0 / np.sum(weights[rows == row]) for row in range(count)])
    offsets = solved[:count]
    return offsets - np.average(offsets, weights=1.0 / variances), np.sqrt(variances)


def _way_ns(known: Receiver, receiver: Receiver) -> float:
    places = [
        to_space(np.array(one.latitude), np.array(one.longitude), np.array(one.altitude_m / 1000.0))
        for one in (known, receiver)
    ]
    return float(np.linalg.norm(places[0] - places[1])) / KM_PER_NS
