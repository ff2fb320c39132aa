"""Ellipses that hold the share of true positions that they are named for.

The network states a Gaussian. Where its errors are none (late arrivals: many small ones and some large), no Gaussian
is true at 68 % and at 95 % at once. So an ellipse has the network's shape, and its size for each share comes from
samples whose true position is known: it reaches as far as that share of them lies. This is split conformal prediction
(Papadopoulos et al. 2002; Vovk, Gammerman and Shafer 2005) with the Mahalanobis distance of the stated covariance as
the score (Johnstone and Cox 2021; Braun et al. 2025).

It promises the share over all samples of the scene together, not over each kind of them.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.score import ellipse_radius_squared

Floats = NDArray[np.float64]

SHARES = (
    *(round(0.05 * step, 2) for step in range(1, 14)),
    0.68,
    *(round(0.05 * step, 2) for step in range(14, 20)),
)
"""Of 5 % to 95 %, and 68 %."""
FEWEST_SAMPLES = 20
"""In each half of a validation. Of fewer than 19 samples not even the farthest tells how far 95 % reach."""


class Calibration:
    """The ellipses' sizes as the newest validation found them: a part of each checkpoint, export and bundle.

    Before the first validation, and without one, the ellipses are the network's own.
    """

    def __init__(self) -> None:
        self.samples = 0
        """Of how many samples the sizes are; 0 where they are the network's own."""
        self._radii_squared: dict[float, float] = {}

    def fit(self, distances_squared: Floats) -> None:
        """From the squared Mahalanobis distances of samples that the network was not trained on."""
        enough = len(distances_squared) >= 2 * FEWEST_SAMPLES
        self._radii_squared = radii_squared(distances_squared) if enough else {}
        self.samples = len(distances_squared) if self._radii_squared else 0

    def radius_squared(self, share: float) -> float:
        """The squared Mahalanobis distance of the ellipse that holds this share, one of SHARES."""
        return self._radii_squared[share] if self.samples else ellipse_radius_squared(share)

    def state_dict(self) -> dict[str, Any]:
        # Empty as long as there is nothing to say: files of before there was this part are as good as this.
        if not self.samples:
            return {}
        return {
            "samples": self.samples,
            "radii_squared": [list(pair) for pair in self._radii_squared.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.samples = state.get("samples", 0)
        self._radii_squared = dict(state.get("radii_squared", []))


def radii_squared(distances_squared: Floats) -> dict[float, float]:
    """For each share the distance of rank ceil((n + 1) share) among n; nothing where that cannot be told.

    A new sample is equally likely to take any of the n + 1 ranks, so it lies within that distance with at least this
    probability, whatever the distribution (Vovk et al. 2005; Lei et al. 2018).
    """
    count = len(distances_squared)
    if count < FEWEST_SAMPLES:
        return {}
    ordered = np.sort(np.where(np.isnan(distances_squared), np.inf, distances_squared))
    # Rounded, because 0.55 * 100 is a little more than 55.
    ranks = {share: math.ceil(round((count + 1) * share, 6)) for share in SHARES}
    found = {share: float(ordered[rank - 1]) for share, rank in ranks.items()}
    return found if math.isfinite(max(found.values())) else {}


def unseen_coverage(distances_squared: Floats) -> dict[float, float]:
    """Which share the ellipses hold of samples that their sizes were not taken from.

    Each half of the samples is looked at with the sizes that the other half gives. Where there are too few samples,
    the ellipses are the network's own.
    """
    halves = distances_squared[0::2], distances_squared[1::2]
    sizes = [radii_squared(other) for other in reversed(halves)]
    return {
        share: sum(_held(half, radii, share) for half, radii in zip(halves, sizes, strict=True))
        / len(distances_squared)
        for share in SHARES
    }


def _held(distances_squared: Floats, radii: dict[float, float], share: float) -> int:
    return int(np.sum(distances_squared <= radii.get(share, ellipse_radius_squared(share))))
