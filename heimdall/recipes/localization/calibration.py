"""Ellipses that hold the share of true positions that they are named for.

The network states a Gaussian. Where its errors are none (late arrivals: many small ones and some large), no Gaussian
is true at 68 % and at 95 % at once. So an ellipse has the network's shape, and its size for each share comes from
samples whose true position is known: it reaches as far as that share of them lies. This is split conformal prediction
(Papadopoulos et al. 2002; Vovk, Gammerman and Shafer 2005) with the Mahalanobis distance of the stated covariance as
the score (Johnstone and Cox 2021; Braun et al. 2025).

It promises the share over all samples that equally many receivers hear: each such number has sizes of its own (Vovk
2013, "Conditional validity of inductive conformal predictors"). So it does over all samples together, but not over
each other kind of them.
"""

import math
from dataclasses import dataclass
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


FEWEST_OF_A_NUMBER = 200
"""Heard by equally many receivers, for sizes of their own; fewer are put together with the next smaller numbers."""


@dataclass(frozen=True)
class Distances:
    """Squared Mahalanobis distances of samples whose position is known, and how many receivers heard each."""

    squared: Floats
    heard: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.squared)

    def __getitem__(self, chosen: slice | NDArray[np.bool_]) -> "Distances":
        return Distances(self.squared[chosen], self.heard[chosen])

    def with_others(self, others: "Distances") -> "Distances":
        return Distances(
            np.concatenate([self.squared, others.squared]), np.concatenate([self.heard, others.heard])
        )


NONE = Distances(np.zeros(0), np.zeros(0, np.intp))


class Calibration:
    """The ellipses' sizes as the newest validation found them: a part of each checkpoint, export and bundle.

    Before the first validation, and without one, the ellipses are the network's own.
    """

    def __init__(self) -> None:
        self.samples = 0
        """Of how many samples of the validation the sizes are; 0 where they are the network's own."""
        self._radii_squared: dict[float, float] = {}
        self._of_numbers: dict[int, dict[float, float]] = {}
        """By the least number of receivers that the sizes are for; empty where only those over all are known."""

    def fit(self, validation: Distances, more: Distances = NONE, *, fewest: int = 2 * FEWEST_SAMPLES) -> None:
        """From samples that the network was not trained on; more: those that were drawn for rare numbers."""
        enough = len(validation) >= fewest
        self._radii_squared = radii_squared(validation.squared) if enough else {}
        self._of_numbers = radii_of_numbers(validation.with_others(more)) if self._radii_squared else {}
        self.samples = len(validation) if self._radii_squared else 0

    def radius_squared(self, share: float, heard: int | None = None) -> float:
        """The squared Mahalanobis distance of the ellipse that holds this share, one of SHARES.

        heard: by how many receivers; without it, over all stations together.
        """
        if not self.samples:
            return ellipse_radius_squared(share)
        if heard is None or not self._of_numbers:
            return self._radii_squared[share]
        return _of_number(self._of_numbers, heard)[share]

    def reach_squared(self, share: float, heard: NDArray[np.integer]) -> Floats:
        """The same for each of many samples."""
        sizes = [self.radius_squared(share, number) for number in range(int(heard.max(initial=0)) + 1)]
        found: Floats = np.array(sizes)[heard]
        return found

    def state_dict(self) -> dict[str, Any]:
        # Empty as long as there is nothing to say: files of before there was this part are as good as this.
        if not self.samples:
            return {}
        found = {"samples": self.samples, "radii_squared": _pairs(self._radii_squared)}
        if self._of_numbers:
            found["of_numbers"] = [[least, _pairs(radii)] for least, radii in self._of_numbers.items()]
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.samples = state.get("samples", 0)
        self._radii_squared = dict(state.get("radii_squared", []))
        self._of_numbers = {least: dict(radii) for least, radii in state.get("of_numbers", [])}


def radii_of_numbers(distances: Distances) -> dict[int, dict[float, float]]:
    """Sizes by the number of receivers, each with FEWEST_OF_A_NUMBER samples and more, from the largest number down.

    A group of a number and those below it stands under the least of them.
    """
    found: dict[int, dict[float, float]] = {}
    waiting = np.zeros(len(distances), bool)
    for number in sorted(set(distances.heard.tolist()), reverse=True):
        waiting |= distances.heard == number
        radii = radii_squared(distances.squared[waiting])
        if waiting.sum() >= FEWEST_OF_A_NUMBER and radii:
            found[number] = radii
            waiting[:] = False
    return dict(sorted(found.items()))


def _of_number(groups: dict[int, dict[float, float]], heard: int) -> dict[float, float]:
    """Of the group that it belongs to; of the nearest where nobody was heard by so few."""
    return groups[max((least for least in groups if least <= heard), default=min(groups))]


def _pairs(radii: dict[float, float]) -> list[list[float]]:
    return [list(pair) for pair in radii.items()]


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


def unseen_coverage(validation: Distances, more: Distances = NONE) -> dict[float, float]:
    """Which share the ellipses hold of samples of the validation that their sizes were not taken from.

    Each half of the samples is looked at with the sizes that the other half gives. Where there are too few samples,
    the ellipses are the network's own.
    """
    halves = validation[0::2], validation[1::2]
    sizes = []
    for other in reversed(halves):
        sizes.append(Calibration())
        sizes[-1].fit(other, more, fewest=FEWEST_SAMPLES)
    return {
        share: sum(_held(half, one, share) for half, one in zip(halves, sizes, strict=True)) / len(validation)
        for share in SHARES
    }


def _held(half: Distances, sizes: Calibration, share: float) -> int:
    return int(np.sum(half.squared <= sizes.reach_squared(share, half.heard)))
