"""Samples that are drawn for the sizes of the ellipses: as many as are wanted of each number of receivers.

A station that few receivers hear is rare, and a validation holds too few of them to say how far 95 % reach. The
generator makes more: of the training's own seed, from an index on that no dataset reaches. The network sees them for
nothing else.
"""

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.random_networks import samples_of
from heimdall.recipes.localization.settings import RadioSettings

FIRST_SAMPLE = 2**44
"""Datasets end before 2^41."""
MOST_OF_A_NUMBER = 6000
"""68 % of so many are told to 0.6 of a point, one standard deviation."""
_MOST_TRIED, _MOST_TRIED_AT_RANDOM = 64, 8
"""Times the wanted number: what is rarer than that stays rare. Networks take longer to draw than stations."""
_BLOCK = 8192


def drawn(
    settings: RadioSettings, seed: int, wanted: int, *, first: int = FIRST_SAMPLE
) -> dict[str, NDArray]:
    """At most so many samples of each number of receivers that hear one, in the order of their indices."""
    generator = samples_of(settings, seed)
    numbers = range(settings.min_receivers, settings.columns + 1)
    left = dict.fromkeys(numbers, wanted)
    kept: list[dict[str, NDArray]] = []
    stop = first + wanted * (_MOST_TRIED_AT_RANDOM if settings.is_random else _MOST_TRIED)
    for start in range(first, stop, _BLOCK):
        if not any(left.values()):
            break
        arrays = generator.samples(start, min(start + _BLOCK, stop)).arrays
        chosen = _chosen(arrays["detected"].sum(axis=1), left)
        kept.append({name: values[chosen] for name, values in arrays.items()})
    return {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}


def _chosen(heard: NDArray[np.integer], left: dict[int, int]) -> NDArray[np.intp]:
    """Places of the first ones of each number that are still wanted."""
    found = []
    for number, count in left.items():
        places = np.flatnonzero(heard == number)[:count]
        left[number] -= len(places)
        found.append(places)
    return np.sort(np.concatenate(found))
