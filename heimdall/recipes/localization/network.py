"""Where is it, and how sure is that: a network over a set of receivers, refined by learned Gauss-Newton steps.

1. A set-attention network reads one token for each receiver that detected something, in any order, and gives a first
   position with a full covariance. That is good to kilometres.
2. Gauss-Newton steps on the times of arrival take it to the minimum of the weighted squares.
3. A second set-attention network looks at what each receiver leaves unexplained there. It says how much each time
   of arrival should count and how late it probably is. Gauss-Newton steps go on with that, and it is asked again.

Positions are kilometres. The steps run in float64: a range of 150 km in float32 is good to a centimetre, but its
differences, squared and subtracted, are not. The networks themselves run in float32.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from heimdall.recipes.localization.measurement import KM_PER_NS
from heimdall.recipes.localization.propagation import EARTH_FACTOR, EARTH_RADIUS_KM
from heimdall.recipes.localization.set_network import SetNetwork

VALUES = ("snr_db", "rss_dbm", "frequency_offset_hz", "arrival_ns", "error_ns")
"""What a receiver reports, in the order of the last dimension of `Reports.values`."""
PLACES = ("east_km", "north_km", "rise_km")
_SNR, _RSS, _OFFSET, _ARRIVAL, _ERROR = range(len(VALUES))
_FEATURES = len(VALUES) + len(PLACES)
_RESIDUAL_FEATURES = 13

# The physics. Half way along a link of d km the earth stands d^2 / (8 k R) km above the straight line: R is its mean
# radius (IUGG, 6371 km), k = 4/3 the bending of rays in the standard atmosphere (ITU-R P.453, P.530).
_EARTH_BULGE_KM = 8.0 * EARTH_FACTOR * EARTH_RADIUS_KM

# The descent. Figures without a source were set by hand for scenes of this size, with receivers 20 to
# 200 km apart.
_PLAIN_STEPS = 8  # with the receivers' own weights, from each of five starts
_STEPS_EACH = 2  # after each judgement; Gauss-Newton near its minimum squares the error at each step
_LARGEST_STEP_KM = 20.0  # a plain step from far away may lead out of the field
_SPREAD = 1.5  # standard deviations of the first guess from the middle to the four other starts
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-9, 1e6  # of Marquardt (1963), shares of the diagonal
_EASED, _TIGHTENED = 0.1, 10.0  # Marquardt's factor of ten, after a step downhill and after one that was not
_LEARNED_DAMPING = 1e-6  # as good as none: it keeps the determinant of two equal directions from zero

# The outputs' bounds.
_WEIGHT_RANGE = 6.0  # nepers: a weight is between e^-6 and e^6 (1/400 to 400) times the receiver's own
_LATENESS_KM = 0.1  # km that an output of 1 means: a detour of 100 m, 334 ns
_LOG_SPREAD = (-12.0, 4.0)  # nepers, about the scene's own spread of 50 km or so: 0.3 m to some 3000 km
_CORRECTION = 6.0  # nepers, as the weights
_TEMPERED_FROM = 100.0  # squared standard deviations: from ten on an error is a mistake and not noise

# The features' scales, so that each is about 1 in size: typical values of the default scene.
_TYPICAL_ERROR_KM = 100.0 * KM_PER_NS  # 100 ns, the default clock jitter
_TYPICAL_RANGE_KM = 50.0
_TYPICAL_SNR_DB, _SNR_SPREAD_DB = 30.0, 15.0
_STRENGTH_SPREAD_DB = 12.0  # the 11 dB of baselines.STRENGTH_ERROR_DB, about
_BULGES_A_KM = 10.0  # the earth's bulge in units of 100 m

# The numbers' limits.
_TINY = 1e-6  # beside weights of 100 and more per km^2; beside squared ranges it is 1 m^2, 0.05 mm at 10 km
_LEAST_WEIGHT = 1e-12  # whose logarithm is taken
_LEAST_FREEDOM = 0.01  # of an arrival that alone decides where the position is: its residual is 0 over 0
_LEAST_DETERMINANT = 1e-10  # of the product of the diagonal: receivers on one line
_LEAST_SCALE = 1e-3  # of a feature that is the same in every sample
_LEAST_ERROR_NS = 1e-3
_UNEXPLAINED = 0.1  # a cost of ten times what the errors explain begins to widen the ellipse
_CLOCK_AND_POSITION = 3  # unknowns: east, north, time


class Reports(NamedTuple):
    """A batch of samples as the receivers report them; all receivers are there, `detected` says which count."""

    values: Tensor
    """(samples, receivers, 5), float32: VALUES."""
    places: Tensor
    """(samples, receivers, 3), float32: east and north of the network's centre, height above the transmitter."""
    detected: Tensor
    """(samples, receivers), bool."""


class Estimate(NamedTuple):
    """A Gaussian: its mean in km and the root of its covariance, [[exp(a), 0], [b, exp(c)]]."""

    mean: Tensor
    """(samples, 2), float64, km."""
    root: Tensor
    """(samples, 3), float64: a, b, c; exp(a), b and exp(c) are km."""

    def covariance(self) -> Tensor:
        first, cross, second = self.root[:, 0].exp(), self.root[:, 1], self.root[:, 2].exp()
        rows = [first * first, first * cross, first * cross, cross * cross + second * second]
        return torch.stack(rows, dim=1).reshape(-1, 2, 2)


class NetworkOutput(NamedTuple):
    refined: Estimate
    unrefined: Estimate


def negative_log_likelihood(estimate: Estimate, truth: Tensor) -> Tensor:
    """Of a two-dimensional Gaussian in km, for each sample: log(2 pi) + a + c + |root^-1 error|^2 / 2.

    For a circular covariance s^2 the log terms are 2 log s: the variance counts once for each axis.
    """
    return _log_volume(estimate) + 0.5 * mahalanobis_squared(estimate, truth)


def tempered_loss(estimate: Estimate, truth: Tensor) -> Tensor:
    """negative_log_likelihood up to ten standard deviations; beyond, the error counts by its logarithm.

    One sample in thousands takes the wrong one of two crossings, a thousand standard deviations off. Untempered,
    those few are all that the mean of the loss is made of.
    """
    squared = mahalanobis_squared(estimate, truth)
    beyond = _TEMPERED_FROM * (1.0 + torch.log(squared.clamp_min(_TEMPERED_FROM) / _TEMPERED_FROM))
    return _log_volume(estimate) + 0.5 * torch.where(squared > _TEMPERED_FROM, beyond, squared)


def _log_volume(estimate: Estimate) -> Tensor:
    return math.log(2.0 * math.pi) + estimate.root[:, 0] + estimate.root[:, 2]


def mahalanobis_squared(estimate: Estimate, truth: Tensor) -> Tensor:
    """|root^-1 (truth - mean)|^2 for each sample."""
    log_first, cross, log_second = estimate.root.unbind(dim=1)
    error = truth - estimate.mean
    first = error[:, 0] * torch.exp(-log_first)
    second = (error[:, 1] - cross * first) * torch.exp(-log_second)
    return first * first + second * second


class LocalizationNetwork(nn.Module):
    feature_mean: Tensor
    feature_scale: Tensor
    position_mean: Tensor
    position_scale: Tensor

    def __init__(self, *, width: int, heads: int, layers: int, dropout: float, refinements: int) -> None:
        super().__init__()
        self.locate = SetNetwork(_FEATURES, 5, width=width, heads=heads, layers=layers, dropout=dropout)
        self.refine = Refiner(width=width, heads=heads, steps=refinements) if refinements else None
        self.register_buffer("feature_mean", torch.zeros(_FEATURES))
        self.register_buffer("feature_scale", torch.ones(_FEATURES))
        self.register_buffer("position_mean", torch.zeros(2))
        self.register_buffer("position_scale", torch.ones(2))

    @torch.no_grad()
    def fit_normalisation(self, reports: Reports, truth: Tensor) -> None:
        """From the training split, once. It is a part of the model: every checkpoint and every export has it."""
        features = _features(reports)[reports.detected]
        self.feature_mean.copy_(features.mean(dim=0))
        self.feature_scale.copy_(features.std(dim=0).clamp_min(_LEAST_SCALE))
        self.position_mean.copy_(truth.mean(dim=0))
        self.position_scale.copy_(truth.std(dim=0).clamp_min(_LEAST_SCALE))

    def forward(self, reports: Reports) -> NetworkOutput:
        unrefined = self._unrefined(reports)
        if self.refine is None:
            return NetworkOutput(unrefined, unrefined)
        return NetworkOutput(self.refine(reports, unrefined), unrefined)

    def _unrefined(self, reports: Reports) -> Estimate:
        features = (_features(reports) - self.feature_mean) / self.feature_scale
        _, pooled = self.locate(features, reports.detected)
        found = pooled.double()
        scale = self.position_scale.double()
        mean = self.position_mean.double() + scale * found[:, :2]
        logs = scale.log() + found[:, 2:4].clamp(*_LOG_SPREAD)
        return Estimate(mean, torch.stack([logs[:, 0], scale[1] * found[:, 4], logs[:, 1]], dim=1))


class Refiner(nn.Module):
    """Gauss-Newton steps whose weights, and corrections for lateness, are learned."""

    def __init__(self, *, width: int, heads: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.judge = SetNetwork(
            _RESIDUAL_FEATURES, 3, width=width, heads=heads, layers=2, dropout=0.0, outputs_each=2
        )
        # At first nothing is known better than by the receivers themselves: plain Gauss-Newton.
        self.judge.begin_at_zero()

    def forward(self, reports: Reports, start: Estimate) -> Estimate:
        problem = Arrivals(reports)
        with torch.no_grad():
            position = _best_of(problem, start)
        weights, late = problem.weights, torch.zeros_like(problem.weights)
        for _ in range(self.steps):
            features = problem.residual_features(reports, position, weights, late)
            each, pooled = self.judge(features, reports.detected)
            each, pooled = each.double(), pooled.double()
            weights = problem.weights * torch.exp(_WEIGHT_RANGE * torch.tanh(each[..., 0] / _WEIGHT_RANGE))
            late = _LATENESS_KM * each[..., 1]
            position = position.detach()
            for _ in range(_STEPS_EACH):
                position = position + problem.step(position, weights, late)
        return Estimate(position, problem.root(position, weights, late, pooled))


def _best_of(problem: "Arrivals", start: Estimate) -> Tensor:
    """Descend from the middle and four points round it; take the end that arrivals and first guess like best.

    Hyperbolas may cross twice, and near a receiver the way down is narrow.
    """
    first, cross, second = start.root[:, 0].exp(), start.root[:, 1], start.root[:, 2].exp()
    axes = torch.stack(
        [torch.stack([first, cross], dim=1), torch.stack([torch.zeros_like(first), second], dim=1)]
    )
    shifts = _SPREAD * torch.cat([torch.zeros_like(axes[:1]), axes, -axes])
    starts = (start.mean + shifts).flatten(0, 1)
    count = len(shifts)
    ends, cost = problem.repeated(count).descend(starts)
    guessed = Estimate(start.mean.repeat(count, 1), start.root.repeat(count, 1))
    cost = (cost + mahalanobis_squared(guessed, ends)).reshape(count, -1)
    chosen = cost.argmin(dim=0)
    return ends.reshape(count, -1, 2).gather(0, chosen[None, :, None].expand(1, -1, 2))[0]


class Arrivals:
    """Times of arrival as a least-squares problem: which position and clock explain them? In km and float64."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._detected = reports.detected
        places = reports.places.double()
        self._east, self._north, self._rise = places.unbind(dim=2)
        self._observed = KM_PER_NS * reports.values[..., _ARRIVAL].double()
        self.errors = KM_PER_NS * torch.where(self._detected, reports.values[..., _ERROR].double(), 1.0)
        self.weights = torch.where(self._detected, self.errors**-2, 0.0)

    def repeated(self, count: int) -> "Arrivals":
        """The same samples so many times, one whole batch after the other."""
        return Arrivals(
            Reports(*(tensor.repeat(count, *[1] * (tensor.dim() - 1)) for tensor in self._reports))
        )

    def descend(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Damped Gauss-Newton steps with the receivers' own weights, only downhill. Where they end, at what cost."""
        late = torch.zeros_like(self.weights)
        damping = torch.full_like(position[:, :1], _FIRST_DAMPING)
        terms = self._terms(position, self.weights, late)
        for _ in range(_PLAIN_STEPS):
            tried = position + _solved(terms, damping)
            tried_terms = self._terms(tried, self.weights, late)
            better = tried_terms.cost <= terms.cost
            position = torch.where(better[:, None], tried, position)
            terms = _Terms(
                *(torch.where(better, new, old) for new, old in zip(tried_terms, terms, strict=True))
            )
            damping = torch.where(better[:, None], damping * _EASED, damping * _TIGHTENED)
            damping = damping.clamp(_LEAST_DAMPING, _MOST_DAMPING)
        return position, terms.cost

    def step(self, position: Tensor, weights: Tensor, late: Tensor) -> Tensor:
        return _solved(self._terms(position, weights, late), _LEARNED_DAMPING)

    def residual_features(self, reports: Reports, position: Tensor, weights: Tensor, late: Tensor) -> Tensor:
        """What each receiver leaves unexplained, and what could explain it; (samples, receivers, 13), float32."""
        ranges, east, north = self._ranges(position)
        left = self._left(ranges, weights, late=0.0) / self.errors
        leverage = self._leverage(position, weights, late)
        features = [
            _asinh(left),
            _asinh(left / (1.0 - leverage).clamp_min(_LEAST_FREEDOM)) / 2.0,
            left / (1.0 + left.abs()),
            leverage,
            torch.log(self.errors / _TYPICAL_ERROR_KM),
            torch.log(weights.clamp_min(_LEAST_WEIGHT) * self.errors**2),
            reports.values[..., _SNR].double() / _SNR_SPREAD_DB - _TYPICAL_SNR_DB / _SNR_SPREAD_DB,
            self._strength(reports, ranges) / _STRENGTH_SPREAD_DB,
            torch.log(ranges / _TYPICAL_RANGE_KM),
            # The earth over the line of sight half way, but for the transmitter's height.
            _BULGES_A_KM * (ranges * ranges / _EARTH_BULGE_KM - 0.5 * self._rise),
            east,
            north,
            late / _LATENESS_KM,
        ]
        return torch.stack(features, dim=2).detach().float()

    def _strength(self, reports: Reports, ranges: Tensor) -> Tensor:
        """How much stronger than the others a receiver hears it, the distance in free space taken out, dB."""
        strength = reports.values[..., _RSS].double() + 20.0 * torch.log10(ranges)
        count = self._detected.sum(dim=1, keepdim=True).clamp_min(1)
        return strength - torch.where(self._detected, strength, 0.0).sum(dim=1, keepdim=True) / count

    def _leverage(self, position: Tensor, weights: Tensor, late: Tensor) -> Tensor:
        """How much of its own error each arrival hides from its residual: the diagonal of the hat matrix."""
        terms = self._terms(position, weights, late)
        _, east, north = self._ranges(position)
        total = weights.sum(dim=1, keepdim=True).clamp_min(_TINY)
        east = east - (weights * east).sum(dim=1, keepdim=True) / total
        north = north - (weights * north).sum(dim=1, keepdim=True) / total
        found = terms.north[:, None] * east * east - 2.0 * terms.cross[:, None] * east * north
        found = found + terms.east[:, None] * north * north
        determinant = _determinant(terms.east, terms.cross, terms.north)[:, None]
        return (weights * (found / determinant + 1.0 / total)).clamp(0.0, 1.0)

    def root(self, position: Tensor, weights: Tensor, late: Tensor, correction: Tensor) -> Tensor:
        """The root of the covariance: that of the weights, times a learned triangular correction."""
        terms = self._terms(position, weights, late)
        # A fit that leaves far more than its errors explain has missed the minimum or a wrong arrival.
        freedom = (self._detected.sum(dim=1) - _CLOCK_AND_POSITION).clamp_min(1)
        unexplained = (_UNEXPLAINED * terms.cost / freedom).clamp_min(1.0)
        determinant = _determinant(terms.east, terms.cross, terms.north)
        log_first = 0.5 * (terms.north.log() - determinant.log() + unexplained.log())
        first = log_first.exp()
        cross = -terms.cross / determinant * unexplained / first
        log_second = 0.5 * (unexplained.log() - terms.north.log())
        a, b, c = correction.clamp(-_CORRECTION, _CORRECTION).unbind(dim=1)
        # [[f, 0], [x, s]] [[e^a, 0], [b, e^c]] = [[f e^a, 0], [x e^a + s b, s e^c]]
        return torch.stack([log_first + a, cross * a.exp() + log_second.exp() * b, log_second + c], dim=1)

    def _terms(self, position: Tensor, weights: Tensor, late: Tensor) -> "_Terms":
        ranges, east, north = self._ranges(position)
        left = self._left(ranges, weights, late)
        total = weights.sum(dim=1, keepdim=True).clamp_min(_TINY)
        east = east - (weights * east).sum(dim=1, keepdim=True) / total
        north = north - (weights * north).sum(dim=1, keepdim=True) / total
        weighted_east, weighted_north = weights * east, weights * north
        return _Terms(
            (weighted_east * east).sum(dim=1) + _TINY,
            (weighted_east * north).sum(dim=1),
            (weighted_north * north).sum(dim=1) + _TINY,
            (weighted_east * left).sum(dim=1),
            (weighted_north * left).sum(dim=1),
            (weights * left * left).sum(dim=1),
        )

    def _ranges(self, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        east = position[:, :1] - self._east
        north = position[:, 1:] - self._north
        ranges = torch.sqrt(east * east + north * north + self._rise * self._rise + _TINY)
        return ranges, east / ranges, north / ranges

    def _left(self, ranges: Tensor, weights: Tensor, late: Tensor | float) -> Tensor:
        left = self._observed - late - ranges
        total = weights.sum(dim=1, keepdim=True).clamp_min(_TINY)
        return left - (weights * left).sum(dim=1, keepdim=True) / total


class _Terms(NamedTuple):
    """J'WJ and J'Wr with the clock taken out, and the cost; one number for each sample."""

    east: Tensor
    cross: Tensor
    north: Tensor
    pull_east: Tensor
    pull_north: Tensor
    cost: Tensor


def _solved(terms: _Terms, damping: Tensor | float) -> Tensor:
    factor = 1.0 + (damping if isinstance(damping, float) else damping[:, 0])
    east, north = terms.east * factor, terms.north * factor
    determinant = _determinant(east, terms.cross, north)
    step = torch.stack(
        [
            (north * terms.pull_east - terms.cross * terms.pull_north) / determinant,
            (east * terms.pull_north - terms.cross * terms.pull_east) / determinant,
        ],
        dim=1,
    )
    length = torch.sqrt((step * step).sum(dim=1, keepdim=True) + _TINY)
    return step * (_LARGEST_STEP_KM / length).clamp_max(1.0)


def _asinh(values: Tensor) -> Tensor:
    """torch.asinh, which exporters do not know."""
    sizes = values.abs()
    return values.sign() * torch.log(sizes + torch.sqrt(sizes * sizes + 1.0))


def _determinant(east: Tensor, cross: Tensor, north: Tensor) -> Tensor:
    return torch.maximum(east * north - cross * cross, _LEAST_DETERMINANT * east * north)


def _features(reports: Reports) -> Tensor:
    """Reports and places as numbers of like size once they are normalised; arrivals are taken from their mean."""
    values = reports.values
    count = reports.detected.sum(dim=1, keepdim=True).clamp_min(1)
    arrival = torch.where(reports.detected, values[..., _ARRIVAL], 0.0)
    arrival = arrival - arrival.sum(dim=1, keepdim=True) / count
    columns = [
        values[..., _SNR],
        values[..., _RSS],
        values[..., _OFFSET],
        arrival,
        values[..., _ERROR].clamp_min(_LEAST_ERROR_NS).log(),
    ]
    return torch.cat([torch.stack(columns, dim=2), reports.places], dim=2)
