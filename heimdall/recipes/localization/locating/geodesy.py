"""The earth as it is, for arrivals that were really measured.

The generator lives on a flat plane, where a degree has the same length everywhere; both sides of a training agree on
it. Real light goes through space: within 100 km of the middle of a network that plane is wrong by hundreds of metres.
Here receivers stand where WGS 84 says, and a transmitter on ground that curves away under the tangent plane.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.geometry import Links, Network
from heimdall.recipes.localization.settings import Receiver

Floats = NDArray[np.float64]

EQUATOR_KM = 6378.137  # WGS 84, as is the flattening
FLATTENING = 1 / 298.257223563
_ECCENTRICITY_SQUARED = FLATTENING * (2 - FLATTENING)
_ROUNDS = 5  # of the height's fixed point; each gains a factor of 300


def to_space(latitudes: Floats, longitudes: Floats, heights_km: Floats) -> Floats:
    """Earth-centred x, y, z in km, shape (..., 3)."""
    latitude, longitude = np.radians(latitudes), np.radians(longitudes)
    normal = _normal_radius(latitude)
    across = (normal + heights_km) * np.cos(latitude)
    along = (normal * (1 - _ECCENTRICITY_SQUARED) + heights_km) * np.sin(latitude)
    return np.stack(
        np.broadcast_arrays(across * np.cos(longitude), across * np.sin(longitude), along), axis=-1
    )


def from_space(places: Floats) -> tuple[Floats, Floats, Floats]:
    """Latitude and longitude in degrees and height in km, of places near the ground."""
    x, y, z = np.moveaxis(np.asarray(places, np.float64), -1, 0)
    across = np.hypot(x, y)
    latitude = np.arctan2(z, across * (1 - _ECCENTRICITY_SQUARED))
    for _ in range(_ROUNDS):
        lifted = z + _ECCENTRICITY_SQUARED * _normal_radius(latitude) * np.sin(latitude)
        latitude = np.arctan2(lifted, across)
    height = across / np.cos(latitude) - _normal_radius(latitude)
    return np.degrees(latitude), np.degrees(np.arctan2(y, x)), height


def _normal_radius(latitude: Floats) -> Floats:
    return EQUATOR_KM / np.sqrt(1 - _ECCENTRICITY_SQUARED * np.sin(latitude) ** 2)


def distance_km(first: tuple[float, float], second: tuple[float, float]) -> float:
    """The straight line between two places on the ellipsoid, km; latitude and longitude in degrees."""
    ends = [to_space(np.array(place[0]), np.array(place[1]), np.array(0.0)) for place in (first, second)]
    return float(np.linalg.norm(ends[0] - ends[1]))


@dataclass(frozen=True)
class CurvedNetwork(Network):
    """Receivers in the tangent plane at `origin` (latitude, longitude), and transmitters on the curved ground."""

    origin: tuple[float, float]

    @classmethod
    def at(
        cls,
        receivers: tuple[Receiver, ...],
        transmitter_altitude_m: float,
        origin: tuple[float, float] | None,
    ) -> "CurvedNetwork":
        """origin None: the middle of the receivers' box."""
        latitudes = np.array([receiver.latitude for receiver in receivers])
        longitudes = np.array([receiver.longitude for receiver in receivers])
        altitudes = np.array([receiver.altitude_m for receiver in receivers])
        middle = tuple(float(values.min() + values.max()) / 2 for values in (latitudes, longitudes))
        return cls(latitudes, longitudes, altitudes, transmitter_altitude_m, origin or (middle[0], middle[1]))

    @cached_property
    def centre(self) -> tuple[float, float]:
        return self.origin

    @cached_property
    def positions_km(self) -> Floats:
        return self._places[:, :2]

    @cached_property
    def ups_km(self) -> Floats:
        """How far each receiver stands over the tangent plane; those far away stand below it."""
        return self._places[:, 2]

    def to_plane(self, latitudes: Floats, longitudes: Floats) -> Floats:
        height = np.full(np.shape(latitudes), self.transmitter_altitude_m / 1000.0)
        return self._from_degrees(np.asarray(latitudes), np.asarray(longitudes), height)[..., :2]

    def to_degrees(self, positions_km: Floats) -> Floats:
        positions_km = np.asarray(positions_km, np.float64)
        up = self.ground_up_km(positions_km[..., 0], positions_km[..., 1])
        space = self._origin_in_space + np.concatenate([positions_km, up[..., None]], axis=-1) @ self._axes
        latitudes, longitudes, _ = from_space(space)
        return np.stack([latitudes, longitudes], axis=-1)

    def links(self, positions_km: Floats) -> "CurvedLinks":
        return CurvedLinks(self, np.asarray(positions_km, np.float64))

    def ground_up_km(self, east_km: Floats, north_km: Floats) -> Floats:
        """The transmitter's height over the tangent plane, to the fourth order: 1 m is missing at 200 km."""
        east_radius, north_radius = self.radii_km
        return self.transmitter_altitude_m / 1000.0 - 0.5 * (
            east_km * east_km / east_radius + north_km * north_km / north_radius
        )

    @cached_property
    def radii_km(self) -> tuple[float, float]:
        """Of the ground's curvature to the east and to the north."""
        normal = float(_normal_radius(np.radians(np.array(self.origin[0]))))
        return normal, normal**3 * (1 - _ECCENTRICITY_SQUARED) / EQUATOR_KM**2

    @cached_property
    def _places(self) -> Floats:
        return self._from_degrees(self.latitudes, self.longitudes, self.altitudes_m / 1000.0)

    def _from_degrees(self, latitudes: Floats, longitudes: Floats, heights_km: Floats) -> Floats:
        return (to_space(latitudes, longitudes, heights_km) - self._origin_in_space) @ self._axes.T

    @cached_property
    def _origin_in_space(self) -> Floats:
        return to_space(np.array(self.origin[0]), np.array(self.origin[1]), np.array(0.0))

    @cached_property
    def _axes(self) -> Floats:
        """East, north and up as rows."""
        latitude, longitude = np.radians(self.origin)
        sin, cos = np.sin, np.cos
        return np.array(
            [
                [-sin(longitude), cos(longitude), 0.0],
                [-sin(latitude) * cos(longitude), -sin(latitude) * sin(longitude), cos(latitude)],
                [cos(latitude) * cos(longitude), cos(latitude) * sin(longitude), sin(latitude)],
            ]
        )


class CurvedLinks(Links):
    """Ranges through space from transmitters on the curved ground, shape (receivers, samples)."""

    def __init__(self, network: CurvedNetwork, positions_km: Floats) -> None:
        super().__init__(network, positions_km)
        east, north = np.ascontiguousarray(positions_km.T)
        self._up_km = network.ground_up_km(east, north) - network.ups_km[:, None]
        east_radius, north_radius = network.radii_km
        self._falls = -east / east_radius, -north / north_radius
        self.range_km = np.sqrt(self.ground_km**2 + self._up_km**2)

    @cached_property
    def directions(self) -> tuple[Floats, Floats]:
        ranges = np.maximum(self.range_km, 1e-9)
        east = (self.east_km + self._up_km * self._falls[0]) / ranges
        north = (self.north_km + self._up_km * self._falls[1]) / ranges
        return east, north
