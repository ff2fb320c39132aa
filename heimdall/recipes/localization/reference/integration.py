"""The posterior of a transmitter's position on a grid over east, north and the moment of sending.

The grid begins round a minimum of the arrivals, wide enough for late ones, and is laid anew round what carries weight
until it fits. Sums over an evenly spaced grid of something smooth that vanishes at its edge converge faster than any
power of its spacing.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from heimdall.recipes.localization.measurement import KM_PER_NS

TEMPERATURES = (30.0, 15.0, 8.0, 4.0, 2.0, 1.0)
"""Of the rounds that find the grid's place: a narrow peak between coarse points must not be lost at once."""
COARSE = 15
_FIRST_REACH = 6.0
"""Standard deviations round the minimum, with late arrivals counted as noise."""
_BLOCK = 2048  # points at a time of one sample: with 25 nodes they stay in a core's own cache
_COUNTED = 16.0  # nepers below the densest point; what lies lower carries less than 1e-5 of the whole
_BESIDE = 1.0  # cells left round what carries weight


@dataclass(frozen=True)
class ArrivalModel:
    """Of samples, each round one minimum; (samples, receivers) unless said otherwise, float64, km."""

    observed_km: Tensor
    error_km: Tensor
    detected: Tensor
    places_km: Tensor
    """(receivers, 3): east, north, and height over the transmitter."""
    log_direct: Tensor
    """(samples, receivers, nodes, shadows), as the next two: what the strengths say."""
    log_late: Tensor
    log_silent: Tensor
    log_node: Tensor
    """(nodes,)"""
    log_shadow: Tensor
    """(shadows,)"""
    groups: list[list[int]]
    """Receivers that share a part of their shadowing."""
    late_km: float
    """The mean of the exponential delay; 0 where no arrival is late."""

    def log_density(self, east: Tensor, north: Tensor, sent: Tensor) -> Tensor:
        """Of the arrivals and strengths, where and when it was sent; all (samples, points)."""
        ranges = torch.sqrt(
            (east[..., None] - self.places_km[:, 0]) ** 2
            + (north[..., None] - self.places_km[:, 1]) ** 2
            + self.places_km[:, 2] ** 2
        )
        left = self.observed_km[:, None] - ranges - sent[..., None]
        error = self.error_km[:, None]
        direct = -0.5 * (left / error) ** 2 - error.log() - 0.5 * math.log(2.0 * math.pi)
        if not self.late_km:
            return torch.where(self.detected[:, None], direct, 0.0).sum(dim=2) + self._strengths()[:, None]
        late = _log_of_late(left, error, self.late_km)
        pairs = zip(direct, late, strict=True)
        return torch.stack([self._over_nodes(sample, *pair) for sample, pair in enumerate(pairs)])

    def _strengths(self) -> Tensor:
        """What strengths say where they say nothing of the times of arrival; (samples,)."""
        heard = self.detected[..., None, None]
        each = torch.where(heard, torch.logaddexp(self.log_direct, self.log_late), self.log_silent)
        total = self.log_node
        for group in self.groups:
            together = each[:, group].sum(dim=1) + self.log_shadow
            total = total + torch.logsumexp(together, dim=2)
        return torch.logsumexp(total, dim=1)

    def _over_nodes(self, sample: int, direct: Tensor, late: Tensor) -> Tensor:
        """The sum over nodes of the product over receivers of both classes; (points,), of (points, receivers)."""
        heard = self.detected[sample]
        most = torch.where(heard, torch.maximum(direct, late), 0.0)
        shares = torch.exp(direct - most), torch.exp(late - most)
        classes = [part[sample] for part in (self.log_direct, self.log_late, self.log_silent)]
        largest = torch.where(
            heard, torch.maximum(*classes[:2]).amax(dim=(1, 2)), classes[2].amax(dim=(1, 2))
        )
        weights = [torch.exp(part - largest[:, None, None]) for part in classes]
        blocks = zip(*(share.split(_BLOCK) for share in shares), strict=True)
        total = torch.cat([self._products(sample, *block, *weights) for block in blocks]).clamp_min(1e-300)
        return total.log() + most.sum(dim=1) + largest.sum()

    def _products(
        self, sample: int, direct: Tensor, late: Tensor, of_direct: Tensor, of_late: Tensor, of_silent: Tensor
    ) -> Tensor:
        """(points, receivers) and (receivers, nodes, shadows) to (points,)."""
        nodes, shadows = self.log_node.exp(), self.log_shadow.exp()
        total = nodes.expand(len(direct), -1)
        for group in self.groups:
            count = len(shadows) if len(group) > 1 else 1  # one receiver alone shares nothing
            product = torch.ones(len(direct), len(nodes) * count, dtype=torch.float64)
            for receiver in group:
                if self.detected[sample, receiver]:
                    factor = torch.outer(direct[:, receiver], of_direct[receiver, :, :count].flatten())
                    product *= factor.addr_(late[:, receiver], of_late[receiver, :, :count].flatten())
                else:
                    product *= of_silent[receiver, :, :count].flatten()
            together = product.reshape(len(direct), len(nodes), count)
            total = total * (together @ shadows if count > 1 else together[..., 0])
        return total.sum(dim=1)


def _log_of_late(left: Tensor, error: Tensor, mean: float) -> Tensor:
    """The density of a Gaussian error and an exponential delay together."""
    rate = 1.0 / mean
    exponent = rate * (0.5 * rate * error * error - left)
    return math.log(rate) + exponent + torch.special.log_ndtr(left / error - rate * error)


@dataclass(frozen=True)
class Posterior:
    """Of each sample's part round one minimum."""

    log_mass: Tensor
    """(samples,)"""
    east: Tensor
    """(samples, points), km, as the next."""
    north: Tensor
    log_density: Tensor
    """(samples, points): over the position, the moment of sending taken out."""
    log_cell: Tensor
    """(samples,): of a cell's area."""


class Grid:
    """A box in a frame of its own for each sample: along the axes of its first ellipse, and in time."""

    def __init__(self, centres: Tensor, axes: Tensor, deviation_of_time: Tensor) -> None:
        count = len(centres)
        self.centres, self.axes = centres, axes
        self.low = torch.full((count, 3), -_FIRST_REACH, dtype=torch.float64)
        self.high = -self.low
        self.scale = deviation_of_time

    def points(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """East, north and the moment's own coordinate, each (samples, size^3)."""
        steps = torch.linspace(0.0, 1.0, size, dtype=torch.float64)
        mesh = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).reshape(-1, 3)
        own = self.low[:, None] + (self.high - self.low)[:, None] * mesh
        place = self.centres[:, None] + torch.einsum("spa,sba->spb", own[..., :2], self.axes)
        return place[..., 0], place[..., 1], own[..., 2] * self.scale[:, None]

    def shrink(self, log_density: Tensor, size: int) -> None:
        """Round what carries weight; wider where it touches the edge."""
        cube = log_density.reshape(-1, size, size, size)
        counted = cube > cube.flatten(1).amax(dim=1)[:, None, None, None] - _COUNTED
        cell = (self.high - self.low) / (size - 1)
        for axis in range(3):
            others = tuple(place + 1 for place in range(3) if place != axis)
            along = counted.any(dim=others[1]).any(dim=others[0]).double()
            first = along.argmax(dim=1)
            last = size - 1 - along.flip(1).argmax(dim=1)
            low = self.low[:, axis].clone()
            wider = 0.5 * (self.high[:, axis] - low)
            self.low[:, axis] = low + (first - _BESIDE) * cell[:, axis] - wider * (first == 0)
            self.high[:, axis] = low + (last + _BESIDE) * cell[:, axis] + wider * (last == size - 1)


def integrate(model: ArrivalModel, grid: Grid, prior: "Prior", size: int) -> Posterior:
    for temperature in TEMPERATURES:
        grid.shrink(_log_posterior(model, prior, *grid.points(COARSE)) / temperature, COARSE)
    east, north, offset = grid.points(size)
    found = _log_posterior(model, prior, east, north, offset).reshape(len(east), size * size, size)
    cells = (grid.high - grid.low) / (size - 1)
    over_time = torch.logsumexp(found, dim=2) + torch.log(cells[:, 2] * grid.scale)[:, None]
    log_cell = torch.log(cells[:, 0] * cells[:, 1] * torch.linalg.det(grid.axes).abs())
    return Posterior(
        log_mass=torch.logsumexp(over_time, dim=1) + log_cell,
        east=east.reshape(len(east), -1, size)[..., 0],
        north=north.reshape(len(north), -1, size)[..., 0],
        log_density=over_time,
        log_cell=log_cell,
    )


def density_at(model: ArrivalModel, grid: Grid, prior: "Prior", places: Tensor, size: int) -> Tensor:
    """The posterior's logarithm at one place of each sample, as `integrate` scales it; (samples,)."""
    _, _, offset = grid.points(size)
    times = offset[:, :size]
    east, north = (places[:, axis, None].expand(-1, size) for axis in (0, 1))
    cell = (grid.high - grid.low)[:, 2] / (size - 1) * grid.scale
    found = _log_posterior(model, prior, east, north, times)
    return torch.logsumexp(found, dim=1) + cell.log()


@dataclass(frozen=True)
class Prior:
    """Where transmitters stand: evenly in the receivers' box, and evenly in the frame round it."""

    low: Tensor
    high: Tensor
    frame: Tensor
    outside_share: float

    def log_density(self, east: Tensor, north: Tensor) -> Tensor:
        size = self.high - self.low
        whole = size + 2.0 * self.frame
        frame_area = float(whole.prod() - size.prod())
        inside = self._within(east, north, 0.0)
        in_frame = self._within(east, north, 1.0)
        share = torch.where(
            inside,
            (1.0 - self.outside_share) / float(size.prod()),
            torch.where(in_frame, self.outside_share / frame_area, 0.0),
        )
        return share.clamp_min(1e-30).log()

    def _within(self, east: Tensor, north: Tensor, frames: float) -> Tensor:
        low, high = self.low - frames * self.frame, self.high + frames * self.frame
        return (east >= low[0]) & (east <= high[0]) & (north >= low[1]) & (north <= high[1])


def _log_posterior(model: ArrivalModel, prior: Prior, east: Tensor, north: Tensor, offset: Tensor) -> Tensor:
    """offset: the moment of sending less what the arrivals' weighted mean says of it, km."""
    ranges = torch.sqrt(
        (east[..., None] - model.places_km[:, 0]) ** 2
        + (north[..., None] - model.places_km[:, 1]) ** 2
        + model.places_km[:, 2] ** 2
    )
    weights = torch.where(model.detected, 1.0 / (model.error_km**2 + model.late_km**2), 0.0)[:, None]
    mean = (weights * (model.observed_km[:, None] - ranges)).sum(dim=2) / weights.sum(dim=2)
    return model.log_density(east, north, mean + offset) + prior.log_density(east, north)


def km(nanoseconds: Tensor) -> Tensor:
    return KM_PER_NS * nanoseconds
