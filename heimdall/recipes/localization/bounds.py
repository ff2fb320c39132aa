"""Cramer-Rao bounds: no unbiased estimator has a smaller error. All in two dimensions, as sqrt(trace), in
metres.

Times of arrival come with a common unknown clock (the emission time), which is the same as differences to a
reference with their full covariance. Signal strengths come with an unknown transmit power that has a
Gaussian prior.
"""

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.geometry import Links, add_rows, information, root_trace
from heimdall.recipes.localization.measurement import KM_PER_NS

Floats = NDArray[np.float64]
Information = tuple[Floats, Floats, Floats]

DB_PER_NEPER = 10.0 / np.log(10.0)


def timing_information(links: Links, error_ns: Floats, heard: NDArray[np.bool_]) -> Information:
    """Of times of arrival with standard deviations of shape (receivers, samples), 1 / km^2 (Torrieri 1984)."""
    ranges_km = KM_PER_NS * np.where(heard, error_ns, 1.0)
    return information(links, np.where(heard, 1.0 / (ranges_km * ranges_km), 0.0))


def strength_information(
    links: Links,
    error_db: float,
    heard: NDArray[np.bool_],
    *,
    exponent: float = 2.0,
    power_spread_db: float = 3.0,
) -> Information:
    """Of signal strengths that fall by 10 n dB for each factor of ten in distance, 1 / km^2 (Patwari et al. 2003).

    `power_spread_db` is what is known of the transmit power beforehand; 0 says it is known.
    """
    slope = -DB_PER_NEPER * exponent / np.maximum(links.range_km, 1e-3)
    weights = np.where(heard, 1.0 / error_db**2, 0.0)
    east, north = (slope * direction for direction in links.directions)
    sums = [
        add_rows(weights * first * second) for first, second in ((east, east), (east, north), (north, north))
    ]
    if power_spread_db:
        total = add_rows(weights) + 1.0 / power_spread_db**2
        mixed_east, mixed_north = add_rows(weights * east), add_rows(weights * north)
        sums[0] = sums[0] - mixed_east * mixed_east / total
        sums[1] = sums[1] - mixed_east * mixed_north / total
        sums[2] = sums[2] - mixed_north * mixed_north / total
    return sums[0], sums[1], sums[2]


def both(first: Information, second: Information) -> Information:
    """Information of independent measurements adds up."""
    return first[0] + second[0], first[1] + second[1], first[2] + second[2]


def bound_m(found: Information) -> Floats:
    """The square root of the trace of the bound, m; infinite where the position cannot be told."""
    return 1000.0 * root_trace(*found)
