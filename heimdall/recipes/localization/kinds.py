"""Whether the ellipses hold what they say for each kind of station, and not only over all of them.

The calibration promises the latter. By the size of the ellipse, which everybody sees, one may judge a single answer;
how many of its links are obstructed is hidden from network and reader, and an answer may be surer than it should be.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.calibration import Calibration, Distances
from heimdall.recipes.localization.score import SHARES, ellipse_radius_squared

Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]

QUARTERS = (
    "the quarter with the smallest ellipses", "the second quarter", "the third quarter",
    "the quarter with the largest ellipses",
)  # fmt: skip
LINKS = ("no link obstructed", "one", "two", "three", "four or more")
HEARD = (3, 4, 5, 6, 7)
"""By how many receivers; the last and more."""
FEWEST = 100
"""Kinds with fewer samples are left out: their shares would say little."""


def table(
    distances_squared: Floats,
    covariances_km2: Floats,
    arrays: Mapping[str, NDArray],
    calibration: Calibration,
) -> str:
    """In Markdown: which share the ellipses hold of each kind, as calibrated and as the network states them."""
    header = ("stations", "share", *(f"in {100 * share:.0f} %" for share in SHARES))
    if calibration.samples:
        header += tuple(f"in {100 * share:.0f} % as stated" for share in SHARES)
    lines = [header, ("---", *["---:"] * (len(header) - 1))]
    heard = np.sum(arrays["detected"], axis=1)
    stated = [np.full(len(heard), ellipse_radius_squared(share)) for share in SHARES]
    reaches = [calibration.reach_squared(share, heard) for share in SHARES]
    reaches += stated if calibration.samples else []
    for name, chosen in _kinds(covariances_km2, arrays):
        if chosen.sum() >= FEWEST:
            held = (np.mean(distances_squared[chosen] <= reach[chosen]) for reach in reaches)
            shares = [chosen.mean(), *held]
            lines.append((name, *(f"{100 * share:.1f} %" for share in shares)))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_of_numbers(distances: Distances, calibration: Calibration) -> str:
    """In Markdown, over samples of which each number of receivers has as many as can be had."""
    header = ("heard by", "samples", *(f"in {100 * share:.0f} %" for share in SHARES))
    lines = [header, ("---:", *["---:"] * (len(header) - 1))]
    for number in sorted(set(distances.heard.tolist())):
        some = distances[distances.heard == number]
        held = (np.mean(some.squared <= calibration.radius_squared(share, number)) for share in SHARES)
        lines.append((str(number), str(len(some)), *(f"{100 * share:.1f} %" for share in held)))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _kinds(covariances_km2: Floats, arrays: Mapping[str, NDArray]) -> Iterator[tuple[str, Chosen]]:
    yield "all", np.ones(len(covariances_km2), bool)
    sizes = np.trace(covariances_km2, axis1=1, axis2=2)
    quarters = np.searchsorted(np.percentile(sizes, [25, 50, 75]), sizes)
    for number, name in enumerate(QUARTERS):
        yield name, quarters == number
    heard = np.minimum(np.sum(arrays["detected"], axis=1), HEARD[-1])
    for number in HEARD:
        more = " or more" if number == HEARD[-1] else ""
        yield f"heard by {number}{more}", heard == number
    obstructed = np.sum(arrays["obstructed"] & arrays["detected"], axis=1)
    for number, name in enumerate(LINKS):
        yield name, np.minimum(obstructed, len(LINKS) - 1) == number
