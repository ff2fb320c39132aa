"""How good estimates are: distances, the score against the bound, and whether the stated uncertainty is
true."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARES = (0.68, 0.95)


@dataclass(frozen=True)
class Score:
    """Distances in metres; scores and shares without a unit."""

    samples: int
    rmse_m: float
    mean_m: float
    p50_m: float
    p68_m: float
    p95_m: float
    score: float
    """Median error over median bound: about 0.83 for a perfect estimator, since the bound is a root mean
    square."""
    score_p68: float
    score_p95: float
    coverage_68: float
    """Share of the true positions within the ellipse that should hold 68 % of them."""
    coverage_95: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def ellipse_radius_squared(share: float) -> float:
    """The chi-squared quantile with two degrees of freedom: -2 ln(1 - share). Of a Gaussian's ellipse."""
    return float(-2.0 * np.log1p(-share))


def score(
    positions_km: Floats,
    covariances_km2: Floats,
    truth_km: Floats,
    bounds_m: Floats,
    *,
    radius_squared: Callable[[float], float | Floats] = ellipse_radius_squared,
) -> Score:
    """Positions of shape (samples, 2), covariances (samples, 2, 2) and bounds (samples,).

    radius_squared: how far the ellipse for a share reaches, as a squared Mahalanobis distance; one, or each sample's.
    """
    errors_m = 1000.0 * np.hypot(*(np.asarray(positions_km, np.float64) - truth_km).T)
    p50, p68, p95 = np.percentile(errors_m, [50, 68, 95])
    bound_50, bound_68, bound_95 = np.percentile(np.asarray(bounds_m, np.float64), [50, 68, 95])
    squared = mahalanobis_squared(positions_km, covariances_km2, truth_km)
    covered = [float(np.mean(squared <= radius_squared(share))) for share in SHARES]
    return Score(
        samples=len(errors_m),
        rmse_m=float(np.sqrt(np.mean(errors_m**2))),
        mean_m=float(errors_m.mean()),
        p50_m=float(p50),
        p68_m=float(p68),
        p95_m=float(p95),
        score=float(p50 / bound_50),
        score_p68=float(p68 / bound_68),
        score_p95=float(p95 / bound_95),
        coverage_68=covered[0],
        coverage_95=covered[1],
    )


def mahalanobis_squared(positions_km: Floats, covariances_km2: Floats, truth_km: Floats) -> Floats:
    """The squared error in units of the stated covariance, shape (samples,)."""
    east, north = (np.asarray(positions_km, np.float64) - truth_km).T
    covariances = np.asarray(covariances_km2, np.float64)
    east_east, cross, north_north = covariances[:, 0, 0], covariances[:, 0, 1], covariances[:, 1, 1]
    determinant = east_east * north_north - cross * cross
    return (north_north * east * east - 2.0 * cross * east * north + east_east * north * north) / determinant
