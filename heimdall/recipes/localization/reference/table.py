"""The network beside the reference on the same samples, and whether the sums of the reference have converged."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.evaluate import Evaluated, Trained
from heimdall.recipes.localization.reference.reference import GRID, BayesReference, ReferenceEstimates
from heimdall.recipes.localization.score import SHARES, mahalanobis_squared

Floats = NDArray[np.float64]

CHECKED = 100
"""Samples that are integrated once more on a finer grid."""
_FINER = 6
_PERCENTILES = (50, 68, 95)


def table(trained: Trained, evaluated: Evaluated, arrays: Mapping[str, NDArray], samples: int) -> str:
    """In Markdown, of the first so many samples."""
    first = {name: values[:samples] for name, values in arrays.items()}
    reference = BayesReference(trained.settings)
    found = reference.estimate(first)
    truth = first["position_km"]
    ours = evaluated.rows[0]
    squared = mahalanobis_squared(ours.positions_km[:samples], ours.covariances_km2[:samples], truth)
    shares = [float(np.mean(squared <= evaluated.calibration.radius_squared(share))) for share in SHARES]
    named = (
        ("Bayes-optimal reference", found.positions_km, [found.coverage(share) for share in SHARES]),
        ("network", ours.positions_km[:samples], shares),
    )
    header = ("estimator", "median, m", "p68, m", "p95, m", "in 68 %", "in 95 %")
    lines = [header, ("---", *["---:"] * (len(header) - 1))]
    for name, positions, covered in named:
        metres = np.percentile(_errors_m(positions, truth), _PERCENTILES)
        lines.append(
            (name, *(f"{value:.1f}" for value in metres), *(f"{100 * share:.1f} %" for share in covered))
        )
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join(
        [text, _ratios(found, ours.positions_km[:samples], truth), _error(reference, found, first)]
    )


def _ratios(found: ReferenceEstimates, positions_km: Floats, truth_km: Floats) -> str:
    ours, best = (
        np.percentile(_errors_m(positions, truth_km), _PERCENTILES)
        for positions in (positions_km, found.positions_km)
    )
    ratios = ", ".join(
        f"{ratio:.3f} {place}"
        for ratio, place in zip(ours / best, ("at the median", "at p68", "at p95"), strict=True)
    )
    return f"The network's error over the reference's, on the same {len(truth_km)} samples: {ratios}."


def _error(reference: BayesReference, found: ReferenceEstimates, arrays: Mapping[str, NDArray]) -> str:
    """How far a finer grid moves the estimates."""
    few = {name: values[:CHECKED] for name, values in arrays.items()}
    finer = reference.estimate(few, size=GRID + _FINER)
    moved = _errors_m(finer.positions_km, found.positions_km[:CHECKED])
    half, most = np.percentile(moved, [50, 95])
    return (
        f"On a grid of {GRID + _FINER} points to a side instead of {GRID} the reference's estimates move by "
        f"{half:.1f} m (median) and {most:.1f} m (p95), over {len(moved)} samples."
    )


def _errors_m(positions_km: Floats, truth_km: Floats) -> Floats:
    errors: Floats = 1000.0 * np.hypot(*(positions_km - truth_km).T)
    return errors
