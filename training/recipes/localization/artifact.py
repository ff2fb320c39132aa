"""What people look at after each epoch: a few located samples on a map, the errors beside the bound, the calibration.

All of it is a function of the epoch's estimates; nothing is drawn at random. Lengths in km on the plane of the
network (east, north), errors and bounds in metres.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.recipes.localization.geometry import Network
from training.recipes.localization.score import ellipse_radius_squared, mahalanobis_squared

Floats = NDArray[np.float64]

KIND = "localization"
SHOWN_SAMPLES = 200
PERCENTILES = tuple(range(1, 100))
SHARES = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.68)


def artifact(
    network: Network,
    names: list[str],
    positions_km: Floats,
    covariances_km2: Floats,
    truth_km: Floats,
    bounds_m: Floats,
    *,
    unrefined_km: Floats | None = None,
    late_arrivals: bool = False,
) -> dict[str, Any]:
    """Of all samples of a validation; the first few of them are on the map."""
    errors_m = _errors_m(positions_km, truth_km)
    found = {
        "kind": KIND,
        **scene(network, names),
        "samples": _samples(positions_km, covariances_km2, truth_km, bounds_m),
        "count": len(truth_km),
        "percentiles": list(PERCENTILES),
        "errors_m": _percentiles(errors_m),
        "bounds_m": _percentiles(bounds_m),
        "calibration": _calibration(positions_km, covariances_km2, truth_km),
        "late_arrivals": late_arrivals,
    }
    if unrefined_km is not None:
        found["unrefined_m"] = _percentiles(_errors_m(unrefined_km, truth_km))
    return found


def scene(network: Network, names: list[str]) -> dict[str, Any]:
    """What a map needs to know of the receivers: its centre in degrees, and where each stands."""
    places = zip(names, network.positions_km.round(3).tolist(), strict=True)
    return {
        "centre": [round(degrees, 6) for degrees in network.centre],
        "receivers": [[name, *place] for name, place in places],
    }


def _samples(
    positions_km: Floats, covariances_km2: Floats, truth_km: Floats, bounds_m: Floats
) -> list[list[float]]:
    """True east and north, estimated east and north, three of the covariance (km^2), the bound (m)."""
    rows = np.column_stack(
        [
            truth_km[:SHOWN_SAMPLES].round(4),
            positions_km[:SHOWN_SAMPLES].round(4),
            covariances_km2[:SHOWN_SAMPLES].reshape(-1, 4)[:, [0, 1, 3]],
            bounds_m[:SHOWN_SAMPLES],
        ]
    )
    return [[*row[:4], *(_short(value) for value in row[4:])] for row in rows.tolist()]


def _calibration(positions_km: Floats, covariances_km2: Floats, truth_km: Floats) -> list[list[float]]:
    """For each share: how many of the true positions lie within the ellipse that should hold so many."""
    distances = mahalanobis_squared(positions_km, covariances_km2, truth_km)
    return [
        [share, round(float(np.mean(distances <= ellipse_radius_squared(share))), 4)]
        for share in sorted(SHARES)
    ]


def _errors_m(positions_km: Floats, truth_km: Floats) -> Floats:
    errors: Floats = 1000.0 * np.hypot(*(positions_km - truth_km).T)
    return errors


def _percentiles(values: Floats) -> list[float]:
    return [_short(value) for value in np.percentile(values, PERCENTILES).tolist()]


def _short(value: float) -> float:
    return float(f"{value:.4g}")
