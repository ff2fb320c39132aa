"""Whether the arrivals of a transmission can be true together, and if not, whose are wrong."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.locating import classical
from heimdall.recipes.localization.locating.classical import (
    AGREEING,
    BEYOND_NOISE,
    LEAST_HEARD,
    Fits,
    TimesOfArrival,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LATE_MEANS = 3.0
"""Where arrivals may be late, so many mean delays count as noise: 5 % are later than that."""


@dataclass(frozen=True)
class Contradiction:
    """TimesOfArrival that no position explains."""

    culprit: int | None
    """The one receiver without which the others agree; None where it cannot be told."""
    late_ns: float
    """How much later than the others say the culprit's arrival came."""
    probability: float
    """Of noise that makes such reports."""


def checked(
    arrivals: TimesOfArrival, late_mean_ns: float
) -> tuple[TimesOfArrival, Fits, dict[int, Contradiction]]:
    """The arrivals that can be believed, what they allow, and by sample what was wrong with the others.

    Of a sample whose culprit is known its arrival is left out; of one whose culprit is not known nothing is.
    late_mean_ns: 0 where no arrival may be late.
    """
    detected = arrivals.detected.copy()
    found = {sample: wrong for sample in range(len(detected)) if (wrong := _impossible(arrivals, sample))}
    for sample, wrong in found.items():
        if wrong.culprit is not None:
            detected[sample, wrong.culprit] = False
    counted = replace(arrivals, detected=detected)
    fits = classical.fit(counted)
    for sample, probability in enumerate(_probabilities(counted, fits, late_mean_ns)):
        undecided = sample not in found or found[sample].culprit is None
        if undecided and (sample in found or probability < BEYOND_NOISE):
            wrong = _contradiction(counted, sample, probability, late_mean_ns)
            # Nothing within the area fits a station far outside it; that is no contradiction yet.
            if wrong.culprit is not None or not fits.on_the_edge[sample]:
                found[sample] = wrong
    left_out = [sample for sample, wrong in found.items() if wrong.culprit is not None]
    for sample in left_out:
        detected[sample, found[sample].culprit] = False
    counted = replace(arrivals, detected=detected)
    if left_out:
        fits = fits.with_rows(left_out, classical.fit(counted.only(np.array(left_out))))
    return counted, fits, found | _still_wrong(counted, fits, found, late_mean_ns)


def _still_wrong(
    counted: TimesOfArrival, fits: Fits, found: dict[int, Contradiction], late_mean_ns: float
) -> dict[int, Contradiction]:
    """Two wrong clocks: without the first culprit the others still contradict each other."""
    wrong = {}
    for sample in [sample for sample, one in found.items() if one.culprit is not None]:
        probability = _probability(counted, fits, sample, late_mean_ns)
        if probability < BEYOND_NOISE:
            wrong[sample] = Contradiction(None, 0.0, probability)
    return wrong


def _impossible(arrivals: TimesOfArrival, sample: int) -> Contradiction | None:
    """Two receivers that heard it further apart in time than light takes from one to the other."""
    pairs = classical.impossible_pairs(arrivals, sample)
    if not pairs.any():
        return None
    counts = pairs.sum(axis=1)
    worst = int(np.argmax(counts))
    others = np.delete(np.delete(pairs, worst, axis=0), worst, axis=1)
    is_alone = np.sum(counts == counts[worst]) == 1 and not others.any()
    if not is_alone or arrivals.detected[sample].sum() <= LEAST_HEARD:
        return Contradiction(None, 0.0, 0.0)
    rest = [receiver for receiver in np.flatnonzero(arrivals.detected[sample]) if receiver != worst]
    late = float(arrivals.arrival_ns[sample, worst] - np.median(arrivals.arrival_ns[sample, rest]))
    return Contradiction(worst, late, 0.0)


def _contradiction(
    arrivals: TimesOfArrival, sample: int, probability: float, late_mean_ns: float
) -> Contradiction:
    one = arrivals.only(np.array([sample]))
    heard = np.flatnonzero(one.detected[0])
    if len(heard) - 1 <= LEAST_HEARD:  # any three arrivals agree
        return Contradiction(None, 0.0, probability)
    rest = [one.without(int(receiver)) for receiver in heard]
    fits = [classical.fit(without) for without in rest]
    chances = [_probability(without, fit, 0, late_mean_ns) for without, fit in zip(rest, fits, strict=True)]
    agreeing = [number for number, chance in enumerate(chances) if chance > AGREEING]
    if len(agreeing) != 1:
        return Contradiction(None, 0.0, probability)
    chosen = agreeing[0]
    position = fits[chosen].positions_km[0, 0]
    late = classical.residuals_ns(one, 0, position, rest[chosen].detected[0])[heard[chosen]]
    return Contradiction(int(heard[chosen]), float(late), probability)


def _probabilities(arrivals: TimesOfArrival, fits: Fits, late_mean_ns: float) -> list[float]:
    return [_probability(arrivals, fits, sample, late_mean_ns) for sample in range(len(arrivals.detected))]


def _probability(arrivals: TimesOfArrival, fits: Fits, sample: int, late_mean_ns: float) -> float:
    return probability_at(arrivals, sample, fits.positions_km[sample, 0], late_mean_ns)


def probability_at(arrivals: TimesOfArrival, sample: int, position_km: Floats, late_mean_ns: float) -> float:
    """Of noise, and of arrivals as late as they may be, that leave as much unexplained at this position."""
    heard = arrivals.detected[sample]
    left = classical.residuals_ns(arrivals, sample, position_km, heard)
    error = np.hypot(arrivals.error_ns[sample], _LATE_MEANS * late_mean_ns)
    weights = np.where(heard, error**-2.0, 0.0)
    left = left - np.sum(weights * left) / np.sum(weights)
    return classical.chi_squared_tail(float(np.sum(weights * left * left)), int(heard.sum()) - LEAST_HEARD)
