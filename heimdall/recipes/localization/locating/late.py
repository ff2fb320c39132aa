"""How probable it is that an arrival came late, by Bayes, from how late it came.

An arrival is direct (Gaussian) or late by an exponential delay besides. How often it is late is what the generator's
obstacles say of a link of this length and these heights; where a training knew no late arrivals, one in twenty.
"""

import math

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization import propagation
from heimdall.recipes.localization.generator import OBSTACLE_AT
from heimdall.recipes.localization.settings import RadioSettings

Floats = NDArray[np.float64]

SELDOM = 0.05
_PLACES = 13  # on the way, at which the obstacle may stand
_LEAST_FREEDOM = 0.02  # of an arrival that alone decides the position: whether it is late cannot be seen


def obstruction_probability(
    settings: RadioSettings, ground_km: Floats, transmitter_altitude_m: float, altitudes_m: Floats
) -> Floats:
    """Of links of these lengths; altitudes_m has their shape, or one that goes with it."""
    shares = np.linspace(*OBSTACLE_AT, _PLACES).reshape(-1, *(1,) * np.ndim(ground_km))
    earth = propagation.smooth_earth_over_sight_m(
        np.maximum(ground_km, 0.001), shares, transmitter_altitude_m, altitudes_m
    )
    return np.mean(np.where(earth > 0.0, 1.0, obstacle_probability(settings)), axis=0)


def obstacle_probability(settings: RadioSettings) -> float:
    """Of a link that the earth itself leaves free."""
    if settings.obstacle_spread_m == 0.0:
        return float(settings.obstacle_mean_m > 0.0)
    return 0.5 * math.erfc(-settings.obstacle_mean_m / settings.obstacle_spread_m / math.sqrt(2.0))


def late_probabilities(
    residuals_ns: Floats, leverages: Floats, errors_ns: Floats, before: Floats, mean_ns: float
) -> Floats:
    """residuals_ns: of a fit that counted these arrivals. before: how often such a link is late."""
    return np.array(
        [
            _late_probability(left, leverage, error, prior, mean_ns)
            for left, leverage, error, prior in zip(residuals_ns, leverages, errors_ns, before, strict=True)
        ]
    )


def _late_probability(left: float, leverage: float, error: float, prior: float, mean: float) -> float:
    """From what is left beside the fit of all others: the residual without the share that it pulled to itself."""
    freedom = 1.0 - leverage
    if freedom < _LEAST_FREEDOM or not 0.0 < prior < 1.0:
        return prior
    left, deviation = left / freedom, error / math.sqrt(freedom)
    direct = (
        math.log(1.0 - prior) - 0.5 * (left / deviation) ** 2 - math.log(deviation * math.sqrt(2.0 * math.pi))
    )
    late = math.log(prior) + _log_of_late(left, deviation, mean)
    return 1.0 / (1.0 + math.exp(min(max(direct - late, -700.0), 700.0)))


def _log_of_late(value: float, deviation: float, mean: float) -> float:
    """The density of a Gaussian and an exponential delay together."""
    rate = 1.0 / mean
    far = (rate * deviation * deviation - value) / (math.sqrt(2.0) * deviation)
    return math.log(rate / 2.0) + rate * (0.5 * rate * deviation * deviation - value) + _log_erfc(far)


def _log_erfc(value: float) -> float:
    if value < 20.0:
        return math.log(math.erfc(value))
    return -value * value - math.log(
        value * math.sqrt(math.pi)
    )  # the first term is good to 0.1 % from there on
