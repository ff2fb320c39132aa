"""Whether a trained network may be believed for receivers that it is asked about.

A network learns the receivers that it was trained with. What it answers for others was measured: the table "Receivers
that it was not trained with" in docs/localization.md is where the bounds here come from.
"""

from dataclasses import dataclass

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

    def believed(self, num_heard: int) -> bool:
        return not self.moved or (num_heard >= LEAST_ELSEWHERE and self.widest_km <= WIDEST_KM)

    def sentence(self, num_heard: int) -> str:
        """Empty for the receivers of the training."""
        if not self.moved:
            return ""
        what = f"The network was not trained with {', '.join(self.moved)}: up to {self.farthest_km:.1f} km from the "
        what += "nearest receiver of its training."
        if self.believed(num_heard):
            return (
                f"{what} With {LEAST_ELSEWHERE} and more receivers it was measured to be good elsewhere, too."
            )
        why = (
            f"{self.widest_km:.0f} km apart"
            if num_heard >= LEAST_ELSEWHERE
            else f"fewer than {LEAST_ELSEWHERE}"
        )
        return f"{what} With receivers {why} it should not be believed; the classical answer comes first."


def match(settings: RadioSettings, receivers: tuple[Receiver, ...]) -> LayoutMatch:
    places = _in_space(receivers)
    distances = np.linalg.norm(places[:, None] - _in_space(settings.receivers)[None], axis=2).min(axis=1)
    named = zip(receivers, distances, strict=True)
    moved = tuple(receiver.name for receiver, far in named if far > SAME_KM)
    return LayoutMatch(
        origin=Network.of(settings).centre if len(moved) < len(receivers) else None,
        farthest_km=float(distances.max()),
        widest_km=float(np.linalg.norm(places[:, None] - places[None], axis=2).max()),
        moved=moved,
    )


def _in_space(receivers: tuple[Receiver, ...]) -> NDArray[np.float64]:
    values = np.array([[one.latitude, one.longitude, one.altitude_m / 1000.0] for one in receivers])
    return to_space(*values.T)
