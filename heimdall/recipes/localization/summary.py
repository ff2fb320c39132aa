"""What a shard says of its samples, so that people can look at a dataset without anybody reading its files.

Histograms have edges that follow from the settings alone: those of all shards add up. The dataset's first shard
also shows some of its samples for the map. All of it is a function of the shard.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heimdall.recipes.localization.artifact import scene
from heimdall.recipes.localization.geometry import Network
from heimdall.recipes.localization.settings import RadioSettings

KIND = "rf_dataset"
SHOWN_SAMPLES = 400
BINS = 24
SNR_SPAN_DB = 60.0
DILUTIONS = (0.5, 50.0)
BOUNDS_M = (1.0, 100_000.0)


def summary(
    settings: RadioSettings, network: Network, arrays: dict[str, NDArray], *, start: int
) -> dict[str, Any]:
    found: dict[str, Any] = {"histograms": _histograms(settings, network, arrays)}
    if start == 0:
        found["shown"] = {"kind": KIND, **scene(network, settings), "examples": _examples(arrays)}
    return found


def _histograms(settings: RadioSettings, network: Network, arrays: dict[str, NDArray]) -> dict[str, Any]:
    heard = arrays["detected"]
    distances = np.linalg.norm(arrays["position_km"][:, None, :] - _stands_km(network, arrays), axis=2)[heard]
    low_snr = settings.detection_snr_db
    return {
        "distance_km": _linear(distances, 0.0, _reach_km(settings, network)),
        "snr_db": _linear(arrays["snr_db"][heard], low_snr, low_snr + SNR_SPAN_DB),
        "dilution": _logarithmic(arrays["dilution"], *DILUTIONS),
        "bound_m": _logarithmic(arrays["bound_m"], *BOUNDS_M),
        "heard_by": {
            "scale": "count",
            "low": 0,
            "high": settings.columns,
            "counts": np.bincount(heard.sum(axis=1), minlength=settings.columns + 1).tolist(),
        },
    }


def _reach_km(settings: RadioSettings, network: Network) -> float:
    """The diagonal of the whole area, as a round number: no link is longer."""
    low, high = network.box_km
    sides = settings.widest_km if settings.is_random else high - low
    diagonal = np.hypot(*(sides + 2.0 * network.frame_km(settings.outside_degrees)))
    return float(10.0 * np.ceil(diagonal / 10.0))


def _stands_km(network: Network, arrays: dict[str, NDArray]) -> NDArray[np.float64]:
    """Where receivers stand: (receivers, 2), or (samples, receivers, 2) where each sample has its own."""
    if "east_km" not in arrays:
        return network.positions_km
    return np.stack([arrays["east_km"], arrays["north_km"]], axis=2).astype(np.float64)


def _linear(values: NDArray, low: float, high: float) -> dict[str, Any]:
    places = (values.astype(np.float64) - low) / (high - low)
    return {"scale": "linear", "low": low, "high": high, "counts": _counts(places)}


def _logarithmic(values: NDArray, low: float, high: float) -> dict[str, Any]:
    places = np.log(np.maximum(values.astype(np.float64), low) / low) / np.log(high / low)
    return {"scale": "log", "low": low, "high": high, "counts": _counts(places)}


def _counts(places: ArrayLike) -> list[int]:
    """Values beyond an end are counted in the bin at that end."""
    bins = np.clip(np.floor(np.asarray(places) * BINS), 0, BINS - 1).astype(np.intp)
    return np.bincount(bins, minlength=BINS).tolist()


def _examples(arrays: dict[str, NDArray]) -> list[list[float]]:
    """Of the first samples: east and north in km, how many receivers hear it, and the bound in m."""
    rows = zip(
        arrays["position_km"][:SHOWN_SAMPLES].round(3).tolist(),
        arrays["detected"][:SHOWN_SAMPLES].sum(axis=1).tolist(),
        arrays["bound_m"][:SHOWN_SAMPLES].tolist(),
        strict=True,
    )
    return [[*place, heard, float(f"{bound:.4g}")] for place, heard, bound in rows]
