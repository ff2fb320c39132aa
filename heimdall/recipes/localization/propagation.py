"""How much of the power arrives. Powers in dBm and dB, distances in km or m as named, frequencies in MHz."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LIGHT_KM_PER_S = 299_792.458  # exact: the metre is defined by it
EARTH_RADIUS_KM = 6371.0  # the mean radius of the IUGG
EARTH_FACTOR = 4.0 / 3.0
"""Refraction bends waves round the earth as if it were larger by this: the standard atmosphere of ITU-R P.453."""
# Where Hata (1980) holds: distance, height of the base station, height of the mobile one.
HATA_KM = (1.0, 20.0)
HATA_BASE_M = (30.0, 200.0)
HATA_MOBILE_M = (1.0, 10.0)


def wavelength_m(frequency_mhz: float) -> float:
    """c / f, m: 2.07 m at 145 MHz."""
    return LIGHT_KM_PER_S / frequency_mhz / 1000.0


def free_space_loss(frequency_mhz: float, distance_km: Floats) -> Floats:
    """ITU-R P.525: 32.44 + 20 log f + 20 log d, dB; nearer than 1 m counts as 1 m."""
    return 32.44 + 20.0 * np.log10(frequency_mhz) + 20.0 * np.log10(np.maximum(distance_km, 0.001))


def log_distance_loss(frequency_mhz: float, distance_km: Floats, exponent: Floats) -> Floats:
    """Free space up to 1 km, then 10 n dB for each factor of ten, dB (Rappaport 2002, log-distance model)."""
    near = np.minimum(distance_km, 1.0)
    far = np.maximum(distance_km, 1.0)
    return free_space_loss(frequency_mhz, near) + 10.0 * exponent * np.log10(far)


def okumura_hata_loss(frequency_mhz: float, distance_km: Floats, base_m: Floats, mobile_m: float) -> Floats:
    """Hata 1980, urban, small or medium city, dB. Valid where `okumura_hata_holds`."""
    log_f = np.log10(frequency_mhz)
    mobile = (1.1 * log_f - 0.7) * mobile_m - (1.56 * log_f - 0.8)
    log_base = np.log10(base_m)
    return (
        69.55 + 26.16 * log_f - 13.82 * log_base - mobile + (44.9 - 6.55 * log_base) * np.log10(distance_km)
    )


def okumura_hata_holds(distance_km: Floats, base_m: Floats, mobile_m: float) -> NDArray[np.bool_]:
    """Whether links lie in the formula's range of distance and heights; its frequencies are checked with the
    settings."""
    return (
        (distance_km >= HATA_KM[0])
        & (distance_km <= HATA_KM[1])
        & (base_m >= HATA_BASE_M[0])
        & (base_m <= HATA_BASE_M[1])
        & (HATA_MOBILE_M[0] <= mobile_m <= HATA_MOBILE_M[1])
    )


def radio_horizon_km(first_m: Floats | float, second_m: Floats | float) -> Floats:
    """4.12 (sqrt h1 + sqrt h2), km: how far two antennas see each other over a smooth earth of 4/3 radius.

    Heights in m above that earth's surface, which is the sea here. 4.12 is sqrt(2 * 4/3 * 6371 / 1000).
    """
    return 4.12 * (np.sqrt(np.maximum(first_m, 0.0)) + np.sqrt(np.maximum(second_m, 0.0)))


def earth_bulge_m(first_km: Floats, second_km: Floats) -> Floats:
    """ITU-R P.526: d1 d2 / (2 k Re), m. How far the earth rises over the chord, at `first_km` from one end and
    `second_km` from the other."""
    return 1000.0 * first_km * second_km / (2.0 * EARTH_FACTOR * EARTH_RADIUS_KM)


def smooth_earth_over_sight_m(
    distance_km: Floats, share: Floats, first_m: Floats | float, second_m: Floats | float
) -> Floats:
    """How far a smooth earth stands over the line of sight at `share` of the way from the first to the
    second, m."""
    sight = first_m + (second_m - first_m) * share
    return earth_bulge_m(distance_km * share, distance_km * (1.0 - share)) - sight


def first_fresnel_radius_m(frequency_mhz: float, first_km: Floats, second_km: Floats) -> Floats:
    """ITU-R P.526: sqrt(lambda d1 d2 / (d1 + d2)), m."""
    first_m, second_m = 1000.0 * first_km, 1000.0 * second_km
    return np.sqrt(wavelength_m(frequency_mhz) * first_m * second_m / (first_m + second_m))


def knife_edge_parameter(
    frequency_mhz: float, height_m: Floats, first_km: Floats, second_km: Floats
) -> Floats:
    """ITU-R P.526: nu = h sqrt(2 (d1 + d2) / (lambda d1 d2)); above 0 the edge stands in the way."""
    return np.sqrt(2.0) * height_m / first_fresnel_radius_m(frequency_mhz, first_km, second_km)


def knife_edge_loss(nu: Floats) -> Floats:
    """ITU-R P.526: J(nu), dB; nothing at or below -0.78."""
    above = np.maximum(nu, -0.78) - 0.1
    return np.where(nu > -0.78, 6.9 + 20.0 * np.log10(np.sqrt(above * above + 1.0) + above), 0.0)


def shadowing_root(positions_km: Floats, distance_km: float) -> Floats:
    """Lower Cholesky root of the correlation between receivers, exp(-d / distance) (Gudmundson 1991).

    By reciprocity two receivers near each other see one transmitter behind the same hills.
    """
    apart = np.linalg.norm(positions_km[:, None] - positions_km[None], axis=-1)
    return np.linalg.cholesky(np.exp(-apart / distance_km) + 1e-12 * np.eye(len(positions_km)))


def correlate(root: Floats, independent: Floats) -> Floats:
    """root @ independent for shape (receivers, samples), summed row by row."""
    rows = np.empty_like(independent)
    for row, factors in enumerate(root):
        rows[row] = factors[0] * independent[0]
        for column in range(1, row + 1):
            rows[row] += factors[column] * independent[column]
    return rows


def fading_power(rician_k: Floats, real: Floats, imaginary: Floats) -> Floats:
    """Power of a Rician channel whose mean is 1, linear, from two standard normals; K = 0 is Rayleigh.

    K is the power of the steady path over that of the scattered ones (Simon and Alouini 2005).
    """
    steady = np.sqrt(rician_k / (rician_k + 1.0))
    scattered = np.sqrt(0.5 / (rician_k + 1.0))
    in_phase = steady + scattered * real
    quadrature = scattered * imaginary
    return in_phase * in_phase + quadrature * quadrature


def from_db(decibels: Floats) -> Floats:
    return np.exp(decibels * (np.log(10.0) / 10.0))


def to_db(ratio: Floats) -> Floats:
    """Nothing is added to the ratio: the smallest positive float is far below any power here."""
    return 10.0 * np.log10(np.maximum(ratio, np.finfo(np.float64).tiny))
