"""Positions and directions in a local tangent plane: east, north, up in kilometres from the network's
centre."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.settings import RadioSettings

Floats = NDArray[np.float64]

KM_PER_DEGREE_NORTH = 110.574
KM_PER_DEGREE_EAST = 111.320
"""Of WGS 84 at the equator; east-west times the cosine of the latitude elsewhere."""


@dataclass(frozen=True)
class Network:
    """The receivers as the generator, the bounds and the estimators see them."""

    latitudes: Floats
    longitudes: Floats
    altitudes_m: Floats
    transmitter_altitude_m: float

    @classmethod
    def of(cls, settings: RadioSettings) -> "Network":
        return cls(
            np.array([receiver.latitude for receiver in settings.receivers]),
            np.array([receiver.longitude for receiver in settings.receivers]),
            np.array([receiver.altitude_m for receiver in settings.receivers]),
            settings.ground_altitude_m + settings.transmitter_height_m,
        )

    @classmethod
    def placed(
        cls, east_km: Floats, north_km: Floats, rises_km: Floats, settings: RadioSettings
    ) -> "Network":
        """Of receivers that stand there in the plane of their own centre, which lies where the settings' one does."""
        centre, altitude = cls.of(settings).centre, settings.ground_altitude_m + settings.transmitter_height_m
        east = KM_PER_DEGREE_EAST * np.cos(np.radians(centre[0]))
        latitudes = centre[0] + north_km / KM_PER_DEGREE_NORTH
        return cls(latitudes, centre[1] + east_km / east, altitude + 1000.0 * rises_km, altitude)

    @property
    def size(self) -> int:
        return len(self.latitudes)

    @cached_property
    def centre(self) -> tuple[float, float]:
        """Latitude and longitude of the middle of the receivers' box, degrees."""
        return (
            float(self.latitudes.min() + self.latitudes.max()) / 2,
            float(self.longitudes.min() + self.longitudes.max()) / 2,
        )

    @cached_property
    def positions_km(self) -> Floats:
        """East and north of each receiver, shape (receivers, 2)."""
        return self.to_plane(self.latitudes, self.longitudes)

    @cached_property
    def rises_km(self) -> Floats:
        """How far each receiver stands above the transmitter's antenna, shape (receivers,)."""
        return (self.altitudes_m - self.transmitter_altitude_m) / 1000.0

    @cached_property
    def box_km(self) -> tuple[Floats, Floats]:
        """The south-west and the north-east corner of the receivers' box."""
        return self.positions_km.min(axis=0), self.positions_km.max(axis=0)

    def to_plane(self, latitudes: Floats, longitudes: Floats) -> Floats:
        east = (np.asarray(longitudes) - self.centre[1]) * self._km_per_degree[0]
        north = (np.asarray(latitudes) - self.centre[0]) * self._km_per_degree[1]
        return np.stack([east, north], axis=-1)

    def to_degrees(self, positions_km: Floats) -> Floats:
        """Latitude and longitude of positions of shape (..., 2)."""
        positions_km = np.asarray(positions_km)
        latitudes = self.centre[0] + positions_km[..., 1] / self._km_per_degree[1]
        longitudes = self.centre[1] + positions_km[..., 0] / self._km_per_degree[0]
        return np.stack([latitudes, longitudes], axis=-1)

    def frame_km(self, degrees: float) -> Floats:
        """How far so many degrees reach to the east and to the north."""
        return degrees * self._km_per_degree

    def links(self, positions_km: Floats) -> "Links":
        return Links(self, np.asarray(positions_km, np.float64))

    @cached_property
    def _km_per_degree(self) -> Floats:
        east = KM_PER_DEGREE_EAST * np.cos(np.radians(self.centre[0]))
        return np.array([east, KM_PER_DEGREE_NORTH])


class Links:
    """From transmitters at `positions_km` (samples, 2) to every receiver; arrays of shape (receivers,
    samples).

    Receivers come first: sums over them run row by row, so a sample's numbers do not depend on its
    neighbours.
    """

    def __init__(self, network: Network, positions_km: Floats) -> None:
        east, north = np.ascontiguousarray(positions_km.T)
        self.east_km = east - network.positions_km[:, :1]
        self.north_km = north - network.positions_km[:, 1:]
        self.ground_km = np.sqrt(self.east_km**2 + self.north_km**2)
        self.range_km = np.sqrt(self.ground_km**2 + network.rises_km[:, None] ** 2)

    @cached_property
    def directions(self) -> tuple[Floats, Floats]:
        """How the range grows when the transmitter moves east and north; both without a unit."""
        ranges = np.maximum(self.range_km, 1e-9)
        return self.east_km / ranges, self.north_km / ranges


def add_rows(rows: Floats) -> Floats:
    """The sum over the first axis, one row after the other, however many columns there are."""
    total = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def information(links: Links, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """East-east, east-north and north-north information of times of arrival whose common clock is unknown.

    The weights, shape (receivers, samples), are 1 / variance of the ranges; the clock is taken out by the
    Schur complement. In 1 / km^2 where the weights are.
    """
    east, north = links.directions
    total = np.maximum(add_rows(weights), 1e-300)
    mean_east = add_rows(weights * east) / total
    mean_north = add_rows(weights * north) / total
    east, north = east - mean_east, north - mean_north
    return (
        add_rows(weights * east * east),
        add_rows(weights * east * north),
        add_rows(weights * north * north),
    )


def root_trace(east: Floats, cross: Floats, north: Floats) -> Floats:
    """The square root of the trace of the inverse of a 2-D information; infinite where it is singular."""
    trace = east + north
    determinant = east * north - cross * cross
    good = determinant > 1e-12 * trace * trace
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(good, np.sqrt(trace / np.where(good, determinant, 1.0)), np.inf)


@dataclass(frozen=True)
class Dilution:
    """Dilutions of precision (Torrieri 1984): error over range error, without a unit, shape (samples,)."""

    horizontal: Floats
    total: Floats
    """Two dimensions and the clock."""


def dilution(links: Links, heard: NDArray[np.bool_]) -> Dilution:
    """From (G'G)^-1, G being the horizontal directions and a column of ones for the clock; `heard`
    (receivers, samples)."""
    weights = heard.astype(np.float64)
    sums = information(links, weights)
    horizontal = root_trace(*sums)
    return Dilution(horizontal, np.sqrt(horizontal**2 + _clock_variance(links, weights, sums)))


def _clock_variance(links: Links, weights: Floats, sums: tuple[Floats, Floats, Floats]) -> Floats:
    """The clock's entry of (G'G)^-1: 1 / n + m' J^-1 m, m being the mean direction and J what `information`
    gives."""
    directions_east, directions_north = links.directions
    count = np.maximum(add_rows(weights), 1e-300)
    east = add_rows(weights * directions_east) / count
    north = add_rows(weights * directions_north) / count
    determinant = sums[0] * sums[2] - sums[1] * sums[1]
    spread = sums[2] * east * east - 2.0 * sums[1] * east * north + sums[0] * north * north
    return 1.0 / count + spread / np.where(determinant > 0, determinant, 1.0)
