"""The hardware of a receiver: noise figure, oscillator and antenna.

It belongs to the receiver and not to a dataset: the same receiver is the same in every dataset, whatever its
seed.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization import counter
from heimdall.recipes.localization.antennas import Antennas
from heimdall.recipes.localization.settings import RadioSettings, Receiver

# Ranges of what amateurs use, drawn evenly: web receivers with their front ends, whips, Yagis of 5 to 12 elements.
NOISE_FIGURE_DB = (8.0, 13.0)
YAGI_SHARE = 0.3  # of the receivers; the others have a whip
WHIP_GAIN_DBI = (0.0, 2.0)
YAGI_GAIN_DBI = (10.0, 15.0)
YAGI_BEAM_DEGREES = (30.0, 60.0)  # between the half-power points


@dataclass(frozen=True)
class Hardware:
    """One value for each receiver, shape (receivers,)."""

    noise_figure_db: NDArray[np.float64]
    oscillator: NDArray[np.float64]
    """Standard normal: times the ppm of the settings it is the error of the receiver's oscillator."""
    antennas: Antennas


def hardware(settings: RadioSettings) -> Hardware:
    draws = np.array([_draws(receiver) for receiver in settings.receivers])
    figure, first, second, kind, gain, beam, bearing = draws.T[:7]
    yagi = kind < YAGI_SHARE
    return Hardware(
        noise_figure_db=_between(NOISE_FIGURE_DB, figure),
        oscillator=counter.normals(first, second)[0],
        antennas=Antennas(
            gain_dbi=np.where(yagi, _between(YAGI_GAIN_DBI, gain), _between(WHIP_GAIN_DBI, gain)),
            beam_degrees=np.where(yagi, _between(YAGI_BEAM_DEGREES, beam), np.inf),
            bearing_degrees=360.0 * bearing,
        ),
    )


def _draws(receiver: Receiver) -> list[float]:
    text = f"{receiver.name}|{receiver.latitude!r}|{receiver.longitude!r}|{receiver.altitude_m!r}"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return [float(value) for value in counter.uniforms(key, np.zeros(1, np.uint64), 0, range(2))[:, 0]]


def _between(bounds: tuple[float, float], share: NDArray[np.float64]) -> NDArray[np.float64]:
    return bounds[0] + (bounds[1] - bounds[0]) * share
