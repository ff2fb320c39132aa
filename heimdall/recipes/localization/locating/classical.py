"""Every position that times of arrival allow, for each transmission of a group with the same receivers.

A least-squares fit gives one position even where there are two, or where the arrivals cannot be true. So this looks
for all minima, says how likely the fit is, and which receiver, left out, makes the others agree.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.baselines import LeastSquares, covariances_of, descend, timing_problem
from heimdall.recipes.localization.geometry import Network, dilution
from heimdall.recipes.localization.measurement import KM_PER_NS

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEAST_HEARD = 3
ALLOWED_COST = 9.21
"""Above the best fit, beyond which a second minimum is ruled out: 99 % of two degrees of freedom."""
BEYOND_NOISE = 1e-6
"""Fits less probable than this are no bad luck."""
AGREEING = 1e-3
_GRID = 21  # a side
_STARTS = 6
_STEPS = 40
_LEAST_MARGIN_DEGREES = 0.6
_MARGIN_BOXES = 1.0  # of the receivers' box
_CHUNK = 256
_IMPOSSIBLE_SIGMAS = 6.0
_APART_KM = 0.5  # minima nearer than this, or within three deviations of each other, are one
_MOST_DEVIATION_KM = 300.0  # of a position that is none: the receivers give a direction at best
_RINGS_KM = (0.3, 2.0, 8.0)


@dataclass(frozen=True)
class TimesOfArrival:
    """Of transmissions that the same receivers may have heard; arrays of shape (samples, receivers)."""

    network: Network
    detected: Flags
    arrival_ns: Floats
    error_ns: Floats

    def only(self, chosen: NDArray) -> "TimesOfArrival":
        return TimesOfArrival(
            self.network, self.detected[chosen], self.arrival_ns[chosen], self.error_ns[chosen]
        )

    def without(self, receiver: int) -> "TimesOfArrival":
        detected = self.detected.copy()
        detected[:, receiver] = False
        return TimesOfArrival(self.network, detected, self.arrival_ns, self.error_ns)

    def as_arrays(self) -> dict[str, NDArray]:
        return {"detected": self.detected, "arrival_ns": self.arrival_ns, "error_ns": self.error_ns}


@dataclass(frozen=True)
class Fits:
    """What the arrivals of each transmission allow, its best minimum first; arrays of shape (samples, minima...)."""

    positions_km: Floats
    """(samples, minima, 2); nan where there are fewer."""
    covariances_km2: Floats
    """(samples, minima, 2, 2)."""
    costs: Floats
    """(samples, minima): weighted squares that stay unexplained; infinite where there is no such minimum."""
    on_the_edge: Flags
    """(samples,): the best position lies on the edge of the area that was searched."""

    def best(self, count: int) -> "Fits":
        """At most so many minima of each sample, the best first."""
        order = np.argsort(self.costs, axis=1, kind="stable")[:, :count]
        return Fits(
            np.take_along_axis(self.positions_km, order[..., None], axis=1),
            np.take_along_axis(self.covariances_km2, order[..., None, None], axis=1),
            np.take_along_axis(self.costs, order, axis=1),
            self.on_the_edge,
        )

    def with_rows(self, samples: list[int], others: "Fits") -> "Fits":
        """These samples' fits exchanged for others."""
        new = {name: values.copy() for name, values in vars(self).items()}
        for name, values in new.items():
            values[samples] = getattr(others, name)
        return Fits(**new)

    def is_no_position(self, sample: int) -> bool:
        largest = math.sqrt(float(np.linalg.eigvalsh(self.covariances_km2[sample, 0])[-1]))
        return bool(self.on_the_edge[sample]) or not largest < _MOST_DEVIATION_KM


def fit(arrivals: TimesOfArrival) -> Fits:
    """All transmissions need three arrivals at least."""
    count = len(arrivals.detected)
    chunks = [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    parts = [_fit(arrivals.only(chunk)) for chunk in chunks]
    names = ("positions_km", "covariances_km2", "costs", "on_the_edge")
    return Fits(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _fit(arrivals: TimesOfArrival) -> Fits:
    network, count = arrivals.network, len(arrivals.detected)
    problem = timing_problem(network, arrivals.as_arrays())
    area = _area(network)
    starts = _starts(problem, area)
    ends, terms = descend(_repeated(problem, len(starts)), starts.reshape(-1, 2), _STEPS, area)
    positions = ends.reshape(len(starts), count, 2).transpose(1, 0, 2)
    costs = terms[5].reshape(len(starts), count).T
    covariances = covariances_of(*terms[:3]).reshape(len(starts), count, 2, 2).transpose(1, 0, 2, 3)
    return _distinct(positions, covariances, costs, area)


def _repeated(problem: LeastSquares, times: int) -> LeastSquares:
    return LeastSquares(
        network=problem.network,
        observed=np.tile(problem.observed, times),
        weights=np.tile(problem.weights, times),
        predict=problem.predict,
        slope=problem.slope,
    )


def _area(network: Network) -> tuple[Floats, Floats]:
    low, high = network.box_km
    margin = np.maximum(network.frame_km(_LEAST_MARGIN_DEGREES), _MARGIN_BOXES * np.max(high - low))
    return low - margin, high + margin


def _starts(problem: LeastSquares, area: tuple[Floats, Floats]) -> Floats:
    """The lowest points of a grid that are lower than their neighbours, and the best near a receiver.

    Shape (starts, samples, 2).
    """
    axes = [np.linspace(area[0][axis], area[1][axis], _GRID) for axis in (0, 1)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    costs = _costs(problem, grid.reshape(-1, 2)).reshape(_GRID, _GRID, -1)
    valleys = np.where(_is_valley(costs), costs, np.inf).reshape(_GRID * _GRID, -1)
    lowest = np.argsort(valleys, axis=0)[:_STARTS]
    missing = ~np.isfinite(np.take_along_axis(valleys, lowest, axis=0))
    lowest = np.where(missing, lowest[:1], lowest)
    near = _near_receivers(problem)
    best_near = np.argmin(_costs(problem, near), axis=0)
    return np.concatenate([grid.reshape(-1, 2)[lowest], near[best_near][None]])


def _costs(problem: LeastSquares, points: Floats) -> Floats:
    return np.stack([problem.residuals(problem.network.links(point[None]))[1] for point in points])


def _near_receivers(problem: LeastSquares) -> Floats:
    around = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    rings = np.concatenate([radius * around for radius in _RINGS_KM])
    return (problem.network.positions_km[:, None] + rings).reshape(-1, 2)


def _is_valley(costs: Floats) -> Flags:
    """Whether each point of a grid is not higher than its eight neighbours."""
    padded = np.pad(costs, ((1, 1), (1, 1), (0, 0)), constant_values=np.inf)
    size = costs.shape[0]
    found = np.ones(costs.shape, bool)
    for east in (0, 1, 2):
        for north in (0, 1, 2):
            found &= costs <= padded[east : east + size, north : north + size]
    return found


def _distinct(positions: Floats, covariances: Floats, costs: Floats, area: tuple[Floats, Floats]) -> Fits:
    """Best first, each minimum once, and none that the arrivals rule out. (samples, minima, ...)"""
    order = np.argsort(costs, axis=1, kind="stable")
    positions = np.take_along_axis(positions, order[..., None], axis=1)
    covariances = np.take_along_axis(covariances, order[..., None, None], axis=1)
    costs = np.take_along_axis(costs, order, axis=1)
    edge = np.any((positions[:, 0] <= area[0] + 1e-6) | (positions[:, 0] >= area[1] - 1e-6), axis=1)
    keep = costs <= costs[:, :1] + ALLOWED_COST
    for later in range(1, keep.shape[1]):
        for before in range(later):
            keep[:, later] &= ~(keep[:, before] & _are_one(positions, covariances, before, later))
    costs = np.where(keep, costs, np.inf)
    positions = np.where(keep[..., None], positions, np.nan)
    return Fits(positions, covariances, costs, edge)


def _are_one(positions: Floats, covariances: Floats, one: int, other: int) -> Flags:
    """Near each other, or on the way of one valley that a descent has not gone to its end."""
    difference = positions[:, one] - positions[:, other]
    distance = np.linalg.norm(difference, axis=1)
    spread = np.sqrt(np.einsum("si,sij,sj->s", difference, covariances[:, one], difference))
    return distance * distance <= np.maximum(_APART_KM * distance, 3.0 * spread)


def impossible_pairs(arrivals: TimesOfArrival, sample: int) -> Flags:
    """Which two receivers heard it further apart in time than light takes between them; (receivers, receivers)."""
    network, heard = arrivals.network, arrivals.detected[sample]
    places = np.column_stack([network.positions_km, network.ups_km])
    baselines = np.linalg.norm(places[:, None] - places[None], axis=2)
    apart = KM_PER_NS * np.abs(arrivals.arrival_ns[sample][:, None] - arrivals.arrival_ns[sample][None])
    error = KM_PER_NS * np.hypot(arrivals.error_ns[sample][:, None], arrivals.error_ns[sample][None])
    return (apart > baselines + _IMPOSSIBLE_SIGMAS * error) & heard[:, None] & heard[None]


def residuals_ns(arrivals: TimesOfArrival, sample: int, position_km: Floats, counted: Flags) -> Floats:
    """How much later than expected each arrival came, the clock taken from those that count; (receivers,)."""
    ranges = arrivals.network.links(position_km[None]).range_km[:, 0]
    late = arrivals.arrival_ns[sample] - ranges / KM_PER_NS
    weights = np.where(counted, arrivals.error_ns[sample] ** -2.0, 0.0)
    found: Floats = late - np.sum(weights * late) / np.sum(weights)
    return found


def leverages(arrivals: TimesOfArrival, sample: int, position_km: Floats, counted: Flags) -> Floats:
    """Which share of its own error each arrival hides from its residual; (receivers,)."""
    links = arrivals.network.links(position_km[None])
    weights = np.where(counted, (KM_PER_NS * arrivals.error_ns[sample]) ** -2.0, 0.0)
    columns = np.column_stack([np.ones(len(weights)), *(part[:, 0] for part in links.directions)])
    inverse = np.linalg.pinv(columns.T @ (weights[:, None] * columns))
    found: Floats = np.clip(weights * np.einsum("ri,ij,rj->r", columns, inverse, columns), 0.0, 1.0)
    return found


def dilutions(
    arrivals: TimesOfArrival, sample: int, position_km: Floats, counted: Flags
) -> tuple[float, float]:
    """Horizontal, and of two dimensions and clock."""
    found = dilution(arrivals.network.links(position_km[None]), counted[:, None])
    return float(found.horizontal[0]), float(found.total[0])


def chi_squared_tail(value: float, freedom: int) -> float:
    """The probability of more than this by chance, in closed form for each whole number of degrees of freedom."""
    if freedom <= 0:
        return 1.0
    half = value / 2.0
    if freedom % 2:
        total, term = math.erfc(math.sqrt(half)), math.sqrt(half / math.pi) * 2.0 * math.exp(-half)
        for number in range(1, freedom, 2):
            total += term
            term *= value / (number + 2)
        return min(total, 1.0)
    total, term = 0.0, math.exp(-half)
    for number in range(freedom // 2):
        total += term
        term *= half / (number + 1)
    return min(total, 1.0)
