"""Reports of receivers made by hand: when light would really arrive, through space and not by our own links."""

from collections.abc import Iterable, Sequence

import numpy as np

from heimdall.recipes.localization.settings import NORTHERN_ITALY, Receiver

LIGHT_M_PER_NS = 0.299792458
HEADER = "transmission,receiver,latitude,longitude,altitude_m,arrival_ns,error_ns,snr_db,rss_dbm,frequency_offset_hz"
ITALY = {receiver.name: receiver for receiver in NORTHERN_ITALY}


def space_m(latitude: float, longitude: float, height_m: float) -> np.ndarray:
    """WGS 84 to earth-centred metres, as every textbook has it."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    normal = 6378137.0 / np.sqrt(1 - 6.69437999014e-3 * np.sin(phi) ** 2)
    return np.array(
        [
            (normal + height_m) * np.cos(phi) * np.cos(lam),
            (normal + height_m) * np.cos(phi) * np.sin(lam),
            (normal * (1 - 6.69437999014e-3) + height_m) * np.sin(phi),
        ]
    )


def way_ns(sent: Sequence[float], receiver: Receiver) -> float:
    """sent: latitude, longitude and height in metres."""
    there = space_m(receiver.latitude, receiver.longitude, receiver.altitude_m)
    return float(np.linalg.norm(space_m(*sent) - there)) / LIGHT_M_PER_NS


def lines(
    name: str,
    sent: Sequence[float],
    receivers: Iterable[Receiver],
    *,
    late_ns: dict[str, float] | None = None,
    error_ns: float = 100.0,
    since_ns: float = 0.0,
) -> list[str]:
    """Without noise; late_ns: by a receiver's name, how much later its clock says."""
    found = []
    for receiver in receivers:
        arrival = since_ns + way_ns(sent, receiver) + (late_ns or {}).get(receiver.name, 0.0)
        place = f"{receiver.latitude},{receiver.longitude},{receiver.altitude_m}"
        found.append(f"{name},{receiver.name},{place},{arrival:.1f},{error_ns},25,-95,0")
    return found


def table(*rows: list[str], header: str = HEADER) -> bytes:
    return "\n".join([header, *(line for part in rows for line in part)]).encode()


def metres_off(answer: dict, sent: Sequence[float]) -> float:
    found = answer["position"]
    return float(
        np.linalg.norm(space_m(found["latitude"], found["longitude"], 0.0) - space_m(*sent[:2], 0.0))
    )
