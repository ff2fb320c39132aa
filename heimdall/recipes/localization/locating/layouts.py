"""Whether a trained network may be believed for receivers that it is asked about.

A network learns the receivers that it was trained with. What it answers for others was measured: docs/localization.md
has the table that the bounds here come from.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.geometry import Network
from heimdall.recipes.localization.locating.geodesy import to_space
from heimdall.recipes.localization.settings import RadioSettings, Receiver

SAME_KM = 0.1
MOVED_KM = 3.0
"""So far from the nearest receiver of the training the answers are as good as for those of the training."""
ELSEWHERE_KM = 300.0
"""From the middle of the training's receivers; farther away its plane is of no use."""


@dataclass(frozen=True)
class LayoutMatch:
    """How receivers stand beside those of a training."""

    origin: tuple[float, float]
    """Of the training's plane."""
    centre_km: float
    """From the middle of the training's receivers to the nearest of these."""
    farthest_km: float
    """From the receiver that stands farthest from all of the training, to the nearest of them."""
    moved: tuple[str, ...]
    """The names of those that do not stand where one of the training stands."""

    @property
    def is_elsewhere(self) -> bool:
        return self.centre_km > ELSEWHERE_KM

    @property
    def believed(self) -> bool:
        return self.farthest_km <= MOVED_KM

    def sentence(self) -> str:
        """Empty for the receivers of the training."""
        if not self.moved:
            return ""
        what = f"The network was not trained with {', '.join(self.moved)}: up to {self.farthest_km:.1f} km from the "
        what += "nearest receiver of its training."
        if self.believed:
            return f"{what} So near, its answers were measured to be as good."
        return f"{what} So far it should not be believed, and the classical answer comes first."


def match(settings: RadioSettings, receivers: tuple[Receiver, ...]) -> LayoutMatch:
    trained = _in_space(settings.receivers)
    distances = np.linalg.norm(_in_space(receivers)[:, None] - trained[None], axis=2).min(axis=1)
    named = zip(receivers, distances, strict=True)
    origin = Network.of(settings).centre
    centre = to_space(np.array(origin[0]), np.array(origin[1]), np.array(0.0))
    return LayoutMatch(
        origin=origin,
        centre_km=float(np.linalg.norm(_in_space(receivers) - centre, axis=1).min()),
        farthest_km=float(distances.max()),
        moved=tuple(receiver.name for receiver, far in named if far > SAME_KM),
    )


def _in_space(receivers: tuple[Receiver, ...]) -> NDArray[np.float64]:
    values = np.array([[one.latitude, one.longitude, one.altitude_m / 1000.0] for one in receivers])
    return to_space(*values.T)
