"""The network beside the reference on the same samples, and how far the reference's own sums may be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.evaluate import NETWORK, Evaluated, EvaluationRow
from heimdall.recipes.localization.reference.reference import GRID, BayesReference, ReferenceEstimates
from heimdall.recipes.localization.reference.strengths import DRAWS, SEED
from heimdall.recipes.localization.score import SHARES, mahalanobis_squared, score
from heimdall.recipes.localization.settings import RadioSettings

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray]

REFERENCE = "Bayes-optimal reference"
CHECKED = 100
"""Samples that are integrated once more, on other grids and with strengths drawn anew."""
COARSER = (13, 19)
FINEST = 37
_RESAMPLED = 1000  # times, for the bounds of a ratio (Efron 1979)
_BOUNDS = (2.5, 97.5)
_PERCENTILES = (50, 68, 95)


@dataclass(frozen=True)
class ReferenceComparison:
    """Of the network with the reference, over the first samples of an evaluation."""

    rows: tuple[EvaluationRow, ...]
    """For the evaluation's table."""
    text: str


def compare(
    settings: RadioSettings, evaluated: Evaluated, arrays: Arrays, samples: int, *, draws: int = DRAWS
) -> ReferenceComparison:
    """draws: of the reference's tables of strengths."""
    first = {name: values[:samples] for name, values in arrays.items()}
    reference = BayesReference(settings, draws=draws)
    found = reference.estimate(first)
    network = _first_rows(evaluated, len(found.positions_km))
    count = len(found.positions_km)
    named = "" if count == len(evaluated.truth_km) else f", first {count}"
    rows = [_reference_row(f"{REFERENCE}{named}", found, first, network.covariances_km2)]
    if named:
        rows.append(replace(network, name=f"{NETWORK}{named}"))
    paragraphs = [
        _ratios(network, found, first["position_km"]),
        _own_measures(network, found, first["position_km"]),
        _convergence(reference, found, first, draws),
    ]
    return ReferenceComparison(tuple(rows), "\n\n".join(paragraphs))


def _first_rows(evaluated: Evaluated, count: int) -> EvaluationRow:
    """The network's row as if only so many samples had been evaluated."""
    row = evaluated.rows[0]
    positions, covariances = row.positions_km[:count], row.covariances_km2[:count]
    truth, bounds = evaluated.truth_km[:count], evaluated.bounds_m[:count]
    scored = score(positions, covariances, truth, bounds)
    squared = mahalanobis_squared(positions, covariances, truth)
    held = [float(np.mean(squared <= evaluated.reach_squared(share)[:count])) for share in SHARES]
    return EvaluationRow(
        row.name, replace(scored, coverage_68=held[0], coverage_95=held[1]), positions, covariances
    )


def _reference_row(
    name: str, found: ReferenceEstimates, arrays: Arrays, covariances_km2: Floats
) -> EvaluationRow:
    """Its coverages are those of the posterior's own regions, which are no ellipses."""
    scored = score(found.positions_km, covariances_km2, arrays["position_km"], arrays["bound_m"])
    held = [found.coverage(share) for share in SHARES]
    scored = replace(scored, coverage_68=held[0], coverage_95=held[1])
    return EvaluationRow(name, scored, found.positions_km, covariances_km2)


def _ratios(network: EvaluationRow, found: ReferenceEstimates, truth_km: Floats) -> str:
    ours, best = (_errors_m(positions, truth_km) for positions in (network.positions_km, found.positions_km))
    low, high = np.percentile(_resampled(ours, best), _BOUNDS, axis=0)
    ratios = np.percentile(ours, _PERCENTILES) / np.percentile(best, _PERCENTILES)
    places = zip(("the median", "p68", "p95"), ratios, low, high, strict=True)
    text = ", ".join(f"{one:.3f} at {name} ({least:.3f} to {most:.3f})" for name, one, least, most in places)
    return (
        f"The network's error over the reference's, on the same {len(ours)} samples: {text}; in brackets what 95 % "
        f"of {_RESAMPLED} resamplings give."
    )


def _resampled(ours: Floats, best: Floats) -> Floats:
    """Ratios of the percentiles; (resamplings, percentiles). Both errors of a sample are drawn together."""
    random = np.random.default_rng(SEED)
    found = []
    for _ in range(_RESAMPLED):
        chosen = random.integers(0, len(ours), len(ours))
        found.append(np.percentile(ours[chosen], _PERCENTILES) / np.percentile(best[chosen], _PERCENTILES))
    return np.stack(found)


def _own_measures(network: EvaluationRow, found: ReferenceEstimates, truth_km: Floats) -> str:
    """In what an estimate of the posterior is best at, it cannot be beaten but by luck. At a median it can."""
    ours = _errors_m(network.positions_km, truth_km)
    distance = _mean_ratio(ours, _errors_m(found.medians_km, truth_km))
    squared = _mean_ratio(ours**2, _errors_m(found.positions_km, truth_km) ** 2)
    return (
        "No estimate has a smaller mean squared error than the posterior's mean, and none a smaller mean distance "
        f"than its geometric median. In these measures the network's error is {squared} and {distance} times theirs."
    )


def _mean_ratio(ours: Floats, best: Floats) -> str:
    random = np.random.default_rng(SEED)
    ratios = []
    for _ in range(_RESAMPLED):
        chosen = random.integers(0, len(ours), len(ours))
        ratios.append(ours[chosen].mean() / best[chosen].mean())
    low, high = np.percentile(ratios, _BOUNDS)
    return f"{ours.mean() / best.mean():.3f} ({low:.3f} to {high:.3f})"


def _convergence(reference: BayesReference, found: ReferenceEstimates, arrays: Arrays, draws: int) -> str:
    """How far the estimates are from those of the finest grid, and from those of strengths drawn anew."""
    few = {name: values[:CHECKED] for name, values in arrays.items()}
    finest = reference.estimate(few, size=FINEST).positions_km
    coarser = {size: reference.estimate(few, size=size).positions_km for size in COARSER}
    moved = [
        f"{size} points {_moved(positions, finest)}"
        for size, positions in (*coarser.items(), (GRID, found.positions_km[:CHECKED]))
    ]
    anew = BayesReference(reference.settings, draws=draws, seed=SEED + 1).estimate(few).positions_km
    return (
        f"The integration's error, over {len(finest)} samples: beside a grid of {FINEST} points to a side one of "
        f"{', one of '.join(moved)} (median, p95); with the strengths' tables drawn anew "
        f"{_moved(anew, found.positions_km[:CHECKED])}. The grid of {GRID} is used."
    )


def _moved(positions_km: Floats, others_km: Floats) -> str:
    half, most = np.percentile(_errors_m(positions_km, others_km), [50, 95])
    return f"moves the estimates by {half:.2f} and {most:.1f} m"


def _errors_m(positions_km: Floats, truth_km: Floats) -> Floats:
    errors: Floats = 1000.0 * np.hypot(*(positions_km - truth_km).T)
    return errors
