"""What a receiver makes of the power that arrives: noise, detection and timing."""

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.propagation import LIGHT_KM_PER_S, from_db

Floats = NDArray[np.float64]

BOLTZMANN = 1.380649e-23  # J/K, exact since the SI of 2019
TEMPERATURE_K = 290.0  # the standard noise temperature (Friis 1944, IEEE)
KM_PER_NS = LIGHT_KM_PER_S * 1e-9


def noise_floor_dbm(bandwidth_khz: float, noise_figure_db: Floats | float) -> Floats:
    """kTB at 290 K and the receiver's own noise (Friis 1944), dBm: -133 dBm and the noise figure in 12.5 kHz."""
    thermal = 10.0 * np.log10(BOLTZMANN * TEMPERATURE_K * bandwidth_khz * 1000.0 / 1e-3)
    return thermal + np.asarray(noise_figure_db)


def timing_error_ns(
    snr_db: Floats, *, bandwidth_khz: float, integration_s: float, sync_jitter_ns: float
) -> Floats:
    """Standard deviation of a time of arrival, ns: the clock's jitter and 1 / (2 pi B_rms sqrt(SNR T B)).

    They add as squares. The second is what Stein 1981 ("Algorithms for ambiguity function processing") gives for the
    difference between two receivers of this SNR, taken here for each arrival. B_rms = B / sqrt(12) is that of a flat
    spectrum of width B.
    """
    bandwidth = bandwidth_khz * 1000.0
    energy = np.sqrt(from_db(snr_db) * (integration_s * bandwidth))
    thermal = 1e9 / (2.0 * np.pi * (bandwidth / np.sqrt(12.0)) * energy)
    return np.sqrt(sync_jitter_ns * sync_jitter_ns + thermal * thermal)
