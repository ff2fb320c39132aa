"""Error ellipses as people read them: two half axes in metres and a bearing; and as rings of places."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.locating.geodesy import CurvedNetwork

Floats = NDArray[np.float64]

POINTS = 72


@dataclass(frozen=True)
class ErrorEllipse:
    share: float
    semi_major_m: float
    semi_minor_m: float
    bearing_deg: float
    """Of the long axis, clockwise from north, 0 to 180."""

    def as_dict(self) -> dict[str, float]:
        return {
            "share": self.share,
            "semi_major_m": round(self.semi_major_m, 1),
            "semi_minor_m": round(self.semi_minor_m, 1),
            "bearing_deg": round(self.bearing_deg, 1),
        }


def ellipse(covariance_km2: Floats, share: float, radius_squared: float) -> ErrorEllipse:
    """radius_squared: how far it reaches, as a squared Mahalanobis distance."""
    values, axes = np.linalg.eigh(covariance_km2)
    short, long = 1000.0 * np.sqrt(np.maximum(values, 0.0) * radius_squared)
    bearing = math.degrees(math.atan2(axes[0, 1], axes[1, 1])) % 180.0
    return ErrorEllipse(share, float(long), float(short), bearing)


def ring(network: CurvedNetwork, position_km: Floats, found: ErrorEllipse) -> list[list[float]]:
    """Longitude and latitude of points round it, the first once more at the end, as GeoJSON wants it."""
    angles = np.linspace(0.0, 2.0 * math.pi, POINTS + 1)
    bearing = math.radians(found.bearing_deg)
    along = found.semi_major_m / 1000.0 * np.cos(angles)
    across = found.semi_minor_m / 1000.0 * np.sin(angles)
    east = along * math.sin(bearing) - across * math.cos(bearing)
    north = along * math.cos(bearing) + across * math.sin(bearing)
    places = network.to_degrees(position_km + np.stack([east, north], axis=1))
    return [[round(longitude, 6), round(latitude, 6)] for latitude, longitude in places.tolist()]
