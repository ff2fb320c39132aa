"""Classical estimators, on the same samples and with the same reports as the network.

Both minimise weighted squares over the position; the one further unknown (the clock, or the transmit power)
enters linearly and is solved for at every step. They start from the best point of a coarse grid, so that
what they miss is not the start's fault.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.bounds import DB_PER_NEPER
from heimdall.recipes.localization.generator import EXPONENTS
from heimdall.recipes.localization.geometry import Links, Network, add_rows
from heimdall.recipes.localization.measurement import KM_PER_NS
from heimdall.recipes.localization.propagation import log_distance_loss
from heimdall.recipes.localization.settings import RadioSettings

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray]

STRENGTH_ERROR_DB = 11.0
"""What shadowing, fading, obstacles and the unknown exponent together do to a received power."""
GRID_POINTS = 15  # a side of the grid of starting points
MARGIN_DEGREES = 0.6
"""Positions are looked for so far round the receivers' box."""
# Steps of descent of each estimator: strength says less than time, and its way down is longer.
TIMING_STEPS = 25
STRENGTH_STEPS = 40
APART_KM = 25.0  # from one starting point to the other, so that they may lead to two minima
RINGS_KM = (0.5, 3.0, 8.0)  # of further starting points round each receiver
LONGEST_STEP_KM = 50.0
LOST_KM = (
    1e4  # plain Gauss-Newton may run away; its positions are kept within this, so that errors are numbers
)
_CHUNK = 1024  # samples at a time, for their memory's sake


@dataclass(frozen=True)
class Estimates:
    positions_km: Floats
    """Shape (samples, 2)."""
    covariances_km2: Floats
    """Shape (samples, 2, 2): the inverse of the information that the estimator believes to have."""


@dataclass(frozen=True)
class LeastSquares:
    """Observations that a model and one linear unknown explain; arrays of shape (receivers, samples)."""

    network: Network
    observed: Floats
    weights: Floats
    predict: Callable[[Floats], Floats]
    """From ranges in km to what should be observed."""
    slope: Callable[[Floats], Floats]
    """How the prediction grows with the range."""
    prior_weight: float = 0.0
    """How well the linear unknown is known beforehand to be 0."""

    def residuals(self, links: Links) -> tuple[Floats, Floats]:
        """What the model leaves unexplained, and the cost of each sample."""
        left = self.observed - self.predict(links.range_km)
        unknown = add_rows(self.weights * left) / self._total
        left = left - unknown
        return left, add_rows(self.weights * left * left) + self.prior_weight * unknown * unknown

    def normal_equations(self, links: Links) -> tuple[Floats, ...]:
        """East-east, east-north and north-north of J'WJ with the unknown taken out, east and north of J'Wr,
        and the cost."""
        left, cost = self.residuals(links)
        slope = self.slope(links.range_km)
        east, north = (slope * direction for direction in links.directions)
        mean_east, mean_north = add_rows(self.weights * east), add_rows(self.weights * north)
        total = self._total
        return (
            add_rows(self.weights * east * east) - mean_east * mean_east / total,
            add_rows(self.weights * east * north) - mean_east * mean_north / total,
            add_rows(self.weights * north * north) - mean_north * mean_north / total,
            add_rows(self.weights * east * left),
            add_rows(self.weights * north * left),
            cost,
        )

    @property
    def _total(self) -> Floats:
        return add_rows(self.weights) + self.prior_weight


def centroid(network: Network, arrays: Arrays) -> Estimates:
    """Always the middle of the receivers; its covariance is that of positions spread over the receivers'
    box."""
    count = len(arrays["detected"])
    low, high = network.box_km
    spread = np.diag((high - low) ** 2 / 12.0)
    return Estimates(np.tile(network.positions_km.mean(axis=0), (count, 1)), np.tile(spread, (count, 1, 1)))


def plain_gauss_newton_on_timing(network: Network, arrays: Arrays) -> Estimates:
    """The textbook's (Foy 1976): full steps from the middle of the receivers that detected the transmitter."""

    def minimise(problem: LeastSquares) -> Estimates:
        heard = (problem.weights > 0).astype(np.float64)
        middle = [add_rows(heard * place[:, None]) / add_rows(heard) for place in network.positions_km.T]
        position = np.stack(middle, axis=1)
        for _ in range(TIMING_STEPS):
            terms = problem.normal_equations(network.links(position))
            position = np.clip(position + _step(terms, 0.0), -LOST_KM, LOST_KM)
        return Estimates(position, covariances_of(*problem.normal_equations(network.links(position))[:3]))

    return _in_chunks(network, arrays, timing_problem, minimise)


def gauss_newton_on_timing(network: Network, arrays: Arrays) -> Estimates:
    """Weighted least squares on the times of arrival, each weighted by its own standard deviation; with care."""
    return _in_chunks(network, arrays, timing_problem, lambda problem: _minimise(problem, TIMING_STEPS))


def levenberg_marquardt_on_strength(settings: RadioSettings, network: Network, arrays: Arrays) -> Estimates:
    """Least squares on the signal strengths, with the mean exponent and a prior on the transmit power."""

    def problem(network: Network, arrays: Arrays) -> LeastSquares:
        return _strength_problem(settings, network, arrays)

    return _in_chunks(network, arrays, problem, lambda problem: _minimise(problem, STRENGTH_STEPS))


def timing_problem(network: Network, arrays: Arrays) -> LeastSquares:
    heard = np.ascontiguousarray(arrays["detected"].T)
    error_km = KM_PER_NS * np.where(heard, arrays["error_ns"].T.astype(np.float64), 1.0)
    return LeastSquares(
        network=network,
        observed=KM_PER_NS * np.where(heard, arrays["arrival_ns"].T.astype(np.float64), 0.0),
        weights=np.where(heard, 1.0 / (error_km * error_km), 0.0),
        predict=lambda range_km: range_km,
        slope=np.ones_like,
    )


def _strength_problem(settings: RadioSettings, network: Network, arrays: Arrays) -> LeastSquares:
    heard = np.ascontiguousarray(arrays["detected"].T)
    exponent = 2.0 if settings.path_loss == "free_space" else sum(EXPONENTS) / 2.0

    def predict(range_km: Floats) -> Floats:
        return settings.power_dbm - log_distance_loss(settings.frequency_mhz, range_km, np.array(exponent))

    return LeastSquares(
        network=network,
        observed=np.where(heard, arrays["rss_dbm"].T.astype(np.float64), 0.0),
        weights=np.where(heard, STRENGTH_ERROR_DB**-2.0, 0.0),
        predict=predict,
        slope=lambda range_km: -DB_PER_NEPER * exponent / np.maximum(range_km, 0.1),
        prior_weight=max(settings.power_spread_db, 0.01) ** -2.0,
    )


def _in_chunks(
    network: Network,
    arrays: Arrays,
    problem: Callable[[Network, Arrays], LeastSquares],
    minimise: Callable[[LeastSquares], Estimates],
) -> Estimates:
    """A chunk of samples at a time, so that the grid stays small."""
    found = []
    for start in range(0, len(arrays["detected"]), _CHUNK):
        chunk = {name: values[start : start + _CHUNK] for name, values in arrays.items()}
        found.append(minimise(problem(network, chunk)))
    return Estimates(
        np.concatenate([estimates.positions_km for estimates in found]),
        np.concatenate([estimates.covariances_km2 for estimates in found]),
    )


def _minimise(problem: LeastSquares, steps: int) -> Estimates:
    """From the two best starts that are well apart, the one that ends lower: hyperbolas cross twice."""
    first, second = (descend(problem, start, steps) for start in _two_starts(problem))
    chosen = np.where(first[1][5] <= second[1][5], 0, 1)
    position = np.where(chosen[:, None] == 0, first[0], second[0])
    terms = [np.where(chosen == 0, one, other) for one, other in zip(first[1], second[1], strict=True)]
    return Estimates(position, covariances_of(*terms[:3]))


def descend(
    problem: LeastSquares, position: Floats, steps: int, area: tuple[Floats, Floats] | None = None
) -> tuple[Floats, tuple[Floats, ...]]:
    """Gauss-Newton steps with damping (Levenberg 1944, Marquardt 1963): only a step that lowers the cost is taken.

    Where every step does (near the minimum, nearly always) the damping vanishes: the steps are
    Gauss-Newton's own. area: the corners that positions stay within.
    """
    low, high = area or _area(problem.network)
    damping = np.full(len(position), 1e-3)
    terms = problem.normal_equations(problem.network.links(position))
    for _ in range(steps):
        tried = np.clip(position + _damped_step(terms, damping), low, high)
        tried_terms = problem.normal_equations(problem.network.links(tried))
        better = tried_terms[5] <= terms[5]
        position = np.where(better[:, None], tried, position)
        terms = tuple(np.where(better, new, old) for new, old in zip(tried_terms, terms, strict=True))
        damping = np.clip(np.where(better, damping * 0.1, damping * 10.0), 1e-12, 1e9)
    return position, terms


def _two_starts(problem: LeastSquares) -> tuple[Floats, Floats]:
    network = problem.network
    low, high = _area(network)
    axes = [np.linspace(low[axis], high[axis], GRID_POINTS) for axis in (0, 1)]
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    # Near a receiver the way down to the minimum is short and narrow: start there too.
    around = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    around = np.concatenate([radius * around for radius in RINGS_KM])
    points = np.concatenate([points, (network.positions_km[:, None] + around).reshape(-1, 2)])
    costs = np.stack([problem.residuals(network.links(point[None]))[1] for point in points])
    first = points[np.argmin(costs, axis=0)]
    near = np.linalg.norm(points[:, None] - first[None], axis=-1) < APART_KM
    return first, points[np.argmin(np.where(near, np.inf, costs), axis=0)]


def _area(network: Network) -> tuple[Floats, Floats]:
    low, high = network.box_km
    frame = network.frame_km(MARGIN_DEGREES)
    return low - frame, high + frame


def _damped_step(terms: tuple[Floats, ...], damping: Floats) -> Floats:
    step = _step(terms, damping)
    length = np.sqrt(step[:, :1] ** 2 + step[:, 1:] ** 2)
    return step * np.minimum(1.0, LONGEST_STEP_KM / np.maximum(length, 1e-12))


def _step(terms: tuple[Floats, ...], damping: Floats | float) -> Floats:
    east, cross, north, pull_east, pull_north, _ = terms
    east, north = east * (1.0 + damping), north * (1.0 + damping)
    determinant = np.maximum(east * north - cross * cross, 1e-300)
    return np.stack(
        [
            (north * pull_east - cross * pull_north) / determinant,
            (east * pull_north - cross * pull_east) / determinant,
        ],
        axis=1,
    )


def covariances_of(east: Floats, cross: Floats, north: Floats) -> Floats:
    determinant = np.maximum(east * north - cross * cross, 1e-12 * (east + north) ** 2)
    return (np.stack([north, -cross, -cross, east], axis=1) / determinant[:, None]).reshape(-1, 2, 2)
