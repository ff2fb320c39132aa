"""Whether a trained network may be believed for receivers that it is asked about.

A network learns the receivers that it was trained with. What it answers for others was measured: the table "Receivers
that it was not trained with" in docs/localization.md is where the bounds here come from.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.geometry import Network
from heimdall.recipes.localization.locating.geodesy import to_space
from heimdall.recipes.localization.settings import RadioSettings, Receiver

SAME_KM = 0.1
LEAST_ELSEWHERE = 7
"""Receivers that must have heard it, where some were not trained with; with fewer its worst answers were worse than
the classical ones."""
WIDEST_KM = 400.0
"""Between the farthest two of such receivers; wider networks were not measured."""


class MeasuredLayouts(NamedTuple):
    """What was measured with so many other receivers within a box so wide, in metres."""

    receivers: int
    wide_km: float
    network_m: tuple[float, float]
    """Median and p95."""
    classical_m: tuple[float, float]

    def __str__(self) -> str:
        half, most = map(_length, self.network_m)
        classical_half, classical_most = map(_length, self.classical_m)
        return (
            f"Measured with {self.receivers} others within {self.wide_km:g} km: half of its answers are within "
            f"{half} (classical {classical_half}), 95 % within {most} (classical {classical_most})."
        )


OF_FIXED = (
    MeasuredLayouts(3, 170, (143.9, 105929.6), (136.4, 68593.0)),
    MeasuredLayouts(4, 170, (69.8, 29508.4), (66.5, 1151.2)),
    MeasuredLayouts(5, 170, (65.2, 1251.7), (66.4, 981.8)),
    MeasuredLayouts(7, 55, (41.6, 790.8), (44.0, 806.9)),
    MeasuredLayouts(7, 170, (47.3, 500.2), (52.4, 622.0)),
    MeasuredLayouts(7, 330, (67.8, 894.8), (83.1, 889.8)),
    MeasuredLayouts(10, 170, (37.1, 371.7), (44.3, 528.8)),
    MeasuredLayouts(15, 170, (28.5, 244.2), (37.0, 370.8)),
)
"""Of a network that was trained with one network of receivers; as docs/localization.md has them."""
UNMEASURED = "How good such a network is elsewhere was not measured; the classical answer stands beside it."


@dataclass(frozen=True)
class LayoutMatch:
    """How receivers stand beside those of a training."""

    origin: tuple[float, float] | None
    """Of the training's plane; None where none of these receivers was in the training."""
    farthest_km: float
    """From the receiver that stands farthest from all of the training, to the nearest of them."""
    widest_km: float
    moved: tuple[str, ...]
    """The names of those that do not stand where one of the training stands."""

    drawn: RadioSettings | None = None
    """Of a training whose networks were drawn at random: none of them stands anywhere."""

    def believed(self, num_heard: int) -> bool:
        return not self.moved or (num_heard >= LEAST_ELSEWHERE and self.widest_km <= WIDEST_KM)

    def sentence(self, num_heard: int) -> str:
        """Empty for the receivers of the training."""
        if not self.moved:
            return ""
        measured = UNMEASURED if self.drawn is not None else _nearest(num_heard, self.widest_km)
        found = f"{self._how_far()} {measured}"
        return found if self.believed(num_heard) else f"{found} So the classical answer comes first."

    def _how_far(self) -> str:
        if self.drawn is not None:
            return (
                f"The network was trained with networks drawn at random, of {self.drawn.fewest_receivers} to "
                f"{self.drawn.most_receivers} receivers within {self.drawn.narrowest_km:g} to "
                f"{self.drawn.widest_km:g} km; this one has {len(self.moved)} within {self.widest_km:.0f} km."
            )
        return (
            f"The network was not trained with {', '.join(self.moved)}: up to {self.farthest_km:.1f} km from the "
            "nearest receiver of its training."
        )


def _length(metres: float) -> str:
    return f"{metres:.0f} m" if metres < 10_000 else f"{metres / 1000:.0f} km"


def _nearest(num_heard: int, widest_km: float) -> MeasuredLayouts:
    """By the number of receivers first, then by how wide they stand."""
    return min(
        OF_FIXED,
        key=lambda one: (abs(one.receivers - num_heard), abs(np.log(one.wide_km / max(widest_km, 1.0)))),
    )


def match(settings: RadioSettings, receivers: tuple[Receiver, ...]) -> LayoutMatch:
    places = _in_space(receivers)
    widest = float(np.linalg.norm(places[:, None] - places[None], axis=2).max())
    if settings.is_random:
        return LayoutMatch(None, 0.0, widest, tuple(receiver.name for receiver in receivers), settings)
    distances = np.linalg.norm(places[:, None] - _in_space(settings.receivers)[None], axis=2).min(axis=1)
    named = zip(receivers, distances, strict=True)
    moved = tuple(receiver.name for receiver, far in named if far > SAME_KM)
    return LayoutMatch(
        origin=Network.of(settings).centre if len(moved) < len(receivers) else None,
        farthest_km=float(distances.max()),
        widest_km=widest,
        moved=moved,
    )


def _in_space(receivers: tuple[Receiver, ...]) -> NDArray[np.float64]:
    values = np.array([[one.latitude, one.longitude, one.altitude_m / 1000.0] for one in receivers])
    return to_space(*values.T)
