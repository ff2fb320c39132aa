"""What people look at after each epoch: a few located samples on a map, the errors beside the bound, the calibration.

All of it is a function of the epoch's estimates; nothing is drawn at random. Lengths in km on the plane of the
network (east, north), errors and bounds in metres.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization import score
from heimdall.recipes.localization.calibration import SHARES, Calibration
from heimdall.recipes.localization.geometry import Network
from heimdall.recipes.localization.settings import RadioSettings

Floats = NDArray[np.float64]

KIND = "localization"
SHOWN_SAMPLES = 200
PERCENTILES = tuple(range(1, 100))


def artifact(
    network: Network,
    settings: RadioSettings,
    positions_km: Floats,
    covariances_km2: Floats,
    truth_km: Floats,
    bounds_m: Floats,
    *,
    heard: NDArray[np.integer],
    calibration: Calibration,
    unseen_coverage: Mapping[float, float],
    unrefined_km: Floats | None = None,
) -> dict[str, Any]:
    """Of all samples of a validation; the first few of them are on the map.

    ellipses: how far those of 68 % and 95 % reach over all stations, as squared Mahalanobis distances; each sample
    has those of its own number of receivers. calibration and stated: which share lies within the ellipse for each
    share, of samples that its size was not taken from, and with the size that the network itself states.
    """
    errors_m = _errors_m(positions_km, truth_km)
    squared = score.mahalanobis_squared(positions_km, covariances_km2, truth_km)
    reaches = np.stack([calibration.reach_squared(share, heard) for share in score.SHARES], axis=1)
    found = {
        "kind": KIND,
        **scene(network, settings),
        "samples": _samples(positions_km, covariances_km2, truth_km, bounds_m, reaches),
        "count": len(truth_km),
        "percentiles": list(PERCENTILES),
        "errors_m": _percentiles(errors_m),
        "bounds_m": _percentiles(bounds_m),
        "ellipses": [[share, calibration.radius_squared(share)] for share in score.SHARES],
        "calibrated_on": calibration.samples,
        "calibration": [[share, round(found, 4)] for share, found in unseen_coverage.items()],
        "stated": [
            [share, round(float(np.mean(squared <= score.ellipse_radius_squared(share))), 4)]
            for share in SHARES
        ],
        "late_arrivals": settings.late_arrivals,
    }
    if unrefined_km is not None:
        found["unrefined_m"] = _percentiles(_errors_m(unrefined_km, truth_km))
    return found


def scene(network: Network, settings: RadioSettings) -> dict[str, Any]:
    """What a map needs to know of the receivers: its centre in degrees, and where each stands.

    Networks that were drawn lie on one another, each round its own centre, and no receiver stands for all of them.
    """
    centre = {"centre": [round(degrees, 6) for degrees in network.centre]}
    if settings.is_random:
        return centre | {"receivers": [], "networks": "random"}
    places = zip(settings.receivers, network.positions_km.round(3).tolist(), strict=True)
    return centre | {"receivers": [[receiver.name, *place] for receiver, place in places]}


def _samples(
    positions_km: Floats, covariances_km2: Floats, truth_km: Floats, bounds_m: Floats, reaches: Floats
) -> list[list[float]]:
    """True east and north, estimated east and north, three of the covariance (km^2), the bound (m), both reaches."""
    rows = np.column_stack(
        [
            truth_km[:SHOWN_SAMPLES].round(4),
            positions_km[:SHOWN_SAMPLES].round(4),
            covariances_km2[:SHOWN_SAMPLES].reshape(-1, 4)[:, [0, 1, 3]],
            bounds_m[:SHOWN_SAMPLES],
            reaches[:SHOWN_SAMPLES],
        ]
    )
    return [[*row[:4], *(_short(value) for value in row[4:])] for row in rows.tolist()]


def _errors_m(positions_km: Floats, truth_km: Floats) -> Floats:
    errors: Floats = 1000.0 * np.hypot(*(positions_km - truth_km).T)
    return errors


def _percentiles(values: Floats) -> list[float]:
    return [_short(value) for value in np.percentile(values, PERCENTILES).tolist()]


def _short(value: float) -> float:
    return float(f"{value:.4g}")
