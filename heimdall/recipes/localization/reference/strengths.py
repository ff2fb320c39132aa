"""What strengths say of the links of a transmitter: a table for each receiver, from the generator's own functions.

The joint distribution of the total loss and of whether the link is obstructed depends on the receiver, the distance,
and on what the obstacles of one transmitter share. It is drawn, not derived, so that it is the generator's whatever
its settings are. Receivers that stand near each other share a part of their shadowing: they are groups with a common
factor. What others share, less than SHARED_FROM of it, is left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization import propagation
from heimdall.recipes.localization.generator import OBSTACLE_AT, Generator, between
from heimdall.recipes.localization.geometry import Links, Network

Floats = NDArray[np.float64]

DIRECT, LATE = 0, 1
NODES = (5, 5)
"""Of the Gauss-Hermite rules over what the obstacles share and over the transmit power."""
SHADOWS = 5
"""And over what a group of receivers shares of its shadowing."""
SHARED_FROM = 0.3
_DISTANCES = 40
DRAWS = 4_000
"""For each receiver and distance."""
SEED = 1
"""Of these draws; another one shows what they leave uncertain."""
_LOSS_DB = np.arange(20.0, 300.0, 1.0)
_LEAST_DENSITY = 1e-12


@dataclass(frozen=True)
class LinkWeights:
    """For samples whose transmitter is taken to be somewhere; logarithms, (samples, receivers, nodes, shadows)."""

    direct: Floats
    """Of the strength, the link being free."""
    late: Floats
    """Of the strength, the link being obstructed."""
    silent: Floats
    """Of hearing nothing."""


class StrengthTables:
    def __init__(self, generator: Generator, draws: int = DRAWS, seed: int = SEED) -> None:
        self.settings = generator.settings
        self._network = generator.network
        self._noise_dbm = generator.noise_dbm[:, 0]
        shared, self.shared_weights = _hermite(NODES[0])
        power, power_weights = _hermite(NODES[1])
        self._powers_dbm = self.settings.power_dbm + self.settings.power_spread_db * power
        self.log_node = np.log(np.outer(self.shared_weights, power_weights)).reshape(-1)
        self.groups, shares = _shadowed_together(self._network, self.settings.shadowing_distance_km)
        shadow, self.shadow_weights = _hermite(SHADOWS)
        self._shift_db = self.settings.shadowing_db * np.sqrt(shares)[:, None] * shadow
        self.log_km = np.linspace(np.log(0.5), np.log(500.0), _DISTANCES)
        distances, own = np.exp(self.log_km), self.settings.shadowing_db * np.sqrt(1.0 - shares)
        self.tables = np.stack([_densities(generator, node, distances, own, draws, seed) for node in shared])

    def weights(self, positions_km: Floats, detected: NDArray[np.bool_], rss_dbm: Floats) -> LinkWeights:
        """positions_km: (samples, 2); the others (samples, receivers). Strengths change little in a kilometre."""
        distances = self._network.links(positions_km).range_km.T
        joint = np.stack([self._at(shared, distances, rss_dbm) for shared in range(NODES[0])], axis=-3)
        joint = np.log(joint.reshape(*joint.shape[:-3], -1, SHADOWS) + _LEAST_DENSITY)
        silent = np.stack([self._silent(shared, distances) for shared in range(NODES[0])], axis=-3)
        silent = np.log(silent.reshape(*silent.shape[:-3], -1, SHADOWS) + _LEAST_DENSITY)
        return LinkWeights(joint[DIRECT], joint[LATE], silent)

    def _at(self, shared: int, distances: Floats, rss_dbm: Floats) -> Floats:
        """Densities of both classes at the loss that each power and shadow would mean: (2, samples, receivers,
        powers, shadows)."""
        loss = (self._powers_dbm - rss_dbm[..., None])[..., None] - self._shift_db[:, None]
        place = np.clip((loss - _LOSS_DB[0]) / (_LOSS_DB[1] - _LOSS_DB[0]), 0.0, len(_LOSS_DB) - 1.001)
        place = place.reshape(*place.shape[:2], -1)
        low = place.astype(np.intp)
        share = place - low
        rows = self._rows(shared, distances)  # (2, samples, receivers, losses)
        first = np.take_along_axis(rows, low[None].repeat(2, axis=0), axis=3)
        second = np.take_along_axis(rows, low[None].repeat(2, axis=0) + 1, axis=3)
        found: Floats = ((1.0 - share) * first + share * second).reshape(2, *loss.shape)
        return found

    def _silent(self, shared: int, distances: Floats) -> Floats:
        """The probability that a receiver hears nothing; (samples, receivers, powers, shadows)."""
        least = self._noise_dbm + self.settings.detection_snr_db
        rows = self._rows(shared, distances).sum(axis=0)
        below = np.concatenate([np.zeros((*rows.shape[:2], 1)), np.cumsum(rows, axis=2)], axis=2)
        most_loss = (self._powers_dbm - least[:, None])[..., None] - self._shift_db[:, None]
        place = np.clip(np.round(most_loss - _LOSS_DB[0]), 0, len(_LOSS_DB)).astype(np.intp)
        flat = np.broadcast_to(place.reshape(1, len(least), -1), (*rows.shape[:2], place[0].size))
        heard = np.take_along_axis(below, flat, axis=2).reshape(*rows.shape[:2], *place.shape[1:])
        found: Floats = np.clip(1.0 - heard, 0.0, 1.0)
        return found

    def _rows(self, shared: int, distances: Floats) -> Floats:
        """The table's rows for these distances, between its own; (2, samples, receivers, losses)."""
        place = np.clip(
            (np.log(np.maximum(distances, 0.01)) - self.log_km[0]) / (self.log_km[1] - self.log_km[0]),
            0.0,
            _DISTANCES - 1.001,
        )
        low = place.astype(np.intp)
        share = (place - low)[None, ..., None]
        receivers = np.arange(distances.shape[1])
        table = self.tables[shared]  # (2, receivers, distances, losses)
        found: Floats = (1.0 - share) * table[:, receivers, low] + share * table[:, receivers, low + 1]
        return found


def _shadowed_together(network: Network, distance_km: float) -> tuple[list[list[int]], Floats]:
    """Groups of receivers, each receiver in one, and the share of its shadowing's variance that its group shares."""
    apart = np.linalg.norm(network.positions_km[:, None] - network.positions_km[None], axis=-1)
    correlation = np.exp(-apart / distance_km)
    groups: list[list[int]] = []
    for receiver in range(network.size):
        near = [one for one in groups if correlation[receiver, one].max() >= SHARED_FROM]
        together = sorted([receiver, *(other for one in near for other in one)])
        groups = [*(one for one in groups if one not in near), together]
    shares = np.zeros(network.size)
    for one in groups:
        among = correlation[np.ix_(one, one)][~np.eye(len(one), dtype=bool)]
        shares[one] = among.mean() if len(one) > 1 else 0.0
    return groups, shares


def _densities(
    generator: Generator, common: float, distances_km: Floats, own_db: Floats, draws: int, seed: int
) -> Floats:
    """Joint densities of class and loss, (2, receivers, distances, losses), for what the obstacles share."""
    network = generator.network
    found = np.zeros((2, network.size, len(distances_km), len(_LOSS_DB)))
    edges = np.append(_LOSS_DB - 0.5, _LOSS_DB[-1] + 0.5)
    random = np.random.default_rng(seed)
    for place, distance in enumerate(distances_km):
        loss, obstructed = _losses(generator, _EqualLinks(network, distance, draws), common, random)
        for receiver in range(network.size):
            for kind, chosen in ((DIRECT, ~obstructed[receiver]), (LATE, obstructed[receiver])):
                found[kind, receiver, place] = np.histogram(loss[receiver][chosen], edges)[0] / draws
    return np.stack([_spread(found[:, place], own) for place, own in enumerate(own_db)], axis=1)


class _EqualLinks(Links):
    """Every receiver's transmitter stands as far from it, over the ground."""

    def __init__(self, network: Network, distance_km: float, draws: int) -> None:
        self.ground_km = np.full((network.size, draws), distance_km)
        self.range_km = np.sqrt(self.ground_km**2 + network.rises_km[:, None] ** 2)


def _losses(
    generator: Generator, links: Links, common: float, random: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Loss without shadowing, and obstruction, of every receiver's link; (receivers, draws)."""
    shape = links.range_km.shape
    nu = generator.obstruction(
        links, between(OBSTACLE_AT, random.random(shape)), np.array(common), random.standard_normal(shape)
    )
    loss = generator.path_loss(links, random.random(shape)) + propagation.knife_edge_loss(nu)
    if generator.settings.fading:
        power = propagation.fading_power(
            generator.rician_k(links, random.random(shape)),
            random.standard_normal(shape),
            random.standard_normal(shape),
        )
        loss = loss - propagation.to_db(power)
    return loss, nu > 0.0


def _spread(densities: Floats, deviation_db: float) -> Floats:
    """With the shadowing, a Gaussian; where there is none, the draws' own steps are smoothed a little."""
    reach = np.arange(-40.0, 41.0)
    kernel = np.exp(-0.5 * (reach / max(deviation_db, 1.0)) ** 2)
    length = densities.shape[-1] + len(reach) - 1
    transformed = np.fft.rfft(densities, length) * np.fft.rfft(kernel / kernel.sum(), length)
    found: Floats = np.maximum(np.fft.irfft(transformed, length)[..., 40:-40], 0.0)
    return found


def _hermite(count: int) -> tuple[Floats, Floats]:
    """Places and weights for the mean over a standard normal."""
    places, weights = np.polynomial.hermite_e.hermegauss(count)
    return places, weights / weights.sum()
