"""Gains of receiving antennas, in dBi."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FRONT_TO_BACK_DB = 20.0
"""How much weaker a Yagi hears what is behind it; common data sheets say 15 to 25 dB."""


@dataclass(frozen=True)
class Antennas:
    """One of each for every receiver, shape (receivers,). A whip has an infinite beam: it hears all round."""

    gain_dbi: Floats
    beam_degrees: Floats
    bearing_degrees: Floats

    def towards(self, bearings_degrees: Floats) -> Floats:
        """Gain in dBi towards bearings of shape (receivers, samples); clockwise from north.

        A parabola in the main lobe, -3 dB at half the beam's width on either side; never more than the
        front-to-back ratio below the peak (3GPP TR 36.814, horizontal pattern).
        """
        off = (bearings_degrees - self.bearing_degrees[:, None] + 180.0) % 360.0 - 180.0
        down = 3.0 * (off / (self.beam_degrees[:, None] / 2.0)) ** 2
        return self.gain_dbi[:, None] - np.minimum(down, FRONT_TO_BACK_DB)
