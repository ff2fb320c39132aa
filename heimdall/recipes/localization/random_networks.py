"""Samples of networks that are drawn at random, for a training that is to locate in networks that it never saw.

Network j is a pure function of the settings, the seed and j, and is that of the samples 32 j to 32 j + 31. So sample
i still depends on nothing but the settings, the seed and i.
"""

from collections import Counter
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from heimdall.recipes.localization import counter
from heimdall.recipes.localization.generator import (
    REASONS,
    Generator,
    SampleBlock,
    TooStrict,
    empty,
    fields_of,
)
from heimdall.recipes.localization.geometry import KM_PER_DEGREE_EAST, KM_PER_DEGREE_NORTH, Network
from heimdall.recipes.localization.settings import RadioSettings, Receiver

SAMPLES_EACH = 32
_MOST_DRAWS = 200
_LEAST_SHARE = 0.05
"""Of a network's first tries that the filters let pass; with fewer, some sample might find none in all its tries."""
_TRIES = 2
_ASPECT = (0.5, 1.0)  # of each side of the box to the drawn width
_BELOW_M, _ABOVE_M = (
    100.0,
    500.0,
)  # where receivers stand beside the ground: in the plain, on hills, on towers
_KEY = 2**32  # seeds of samples are below: these numbers are others
_RECEIVER_NUMBERS = 3


class RandomNetworks:
    """Makes samples as a Generator does."""

    def __init__(self, settings: RadioSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.network = Network.of(settings)
        """Of the receivers round whose middle networks are drawn."""
        self.of_number = lru_cache(maxsize=64)(self._of_number)

    def samples(self, start: int, stop: int) -> SampleBlock:
        """Samples start to stop, without stop."""
        return self.take(np.arange(start, stop, dtype=np.uint64))

    def take(self, indices: NDArray[np.integer]) -> SampleBlock:
        """The samples of these indices, in their order."""
        indices = np.asarray(indices).astype(np.uint64)
        arrays = empty(len(indices), self.settings.columns, fields_of(self.settings))
        refused: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        numbers = indices // np.uint64(SAMPLES_EACH)
        for number in np.unique(numbers):
            chosen = np.flatnonzero(numbers == number)
            one = self.of_number(int(number))
            block = one.take(indices[chosen])
            refused.update(block.refused)
            for name, values in (block.arrays | _places(one.network, len(chosen))).items():
                if arrays[name].shape[1:] == values.shape[1:]:
                    arrays[name][chosen] = values
                else:
                    arrays[name][chosen, : one.network.size] = values
        return SampleBlock(arrays, dict(refused))

    def _of_number(self, number: int) -> Generator:
        """The first draw in which stations can be located."""
        own = np.arange(number * SAMPLES_EACH, (number + 1) * SAMPLES_EACH, dtype=np.uint64)
        for attempt in range(_MOST_DRAWS):
            settings = self._drawn(number, attempt)
            if settings is not None:
                found = Generator(settings, self.seed)
                if found.accepted_share(own, _TRIES) >= _LEAST_SHARE:
                    return found
        raise TooStrict(
            f"In {_MOST_DRAWS} networks drawn at random the filters let next to no station pass: draw more "
            "receivers, or narrower networks, or loosen max_dilution and min_snr_db."
        )

    def _drawn(self, number: int, attempt: int) -> RadioSettings | None:
        """None where its receivers stand in line, or on one spot."""
        settings = self.settings
        places = range(1 + (_RECEIVER_NUMBERS * settings.most_receivers + 3) // 4)
        draws = counter.uniforms(_KEY + self.seed, np.array([number], np.uint64), attempt, places)[:, 0]
        many = settings.most_receivers - settings.fewest_receivers + 1
        count = settings.fewest_receivers + int(draws[0] * many)
        width = settings.narrowest_km * (settings.widest_km / settings.narrowest_km) ** draws[1]
        sides = width * (_ASPECT[0] + (_ASPECT[1] - _ASPECT[0]) * draws[2:4])
        each = draws[4 : 4 + _RECEIVER_NUMBERS * count].reshape(count, _RECEIVER_NUMBERS)
        latitude, longitude = self.network.centre
        north = (each[:, 0] - 0.5) * sides[0] / KM_PER_DEGREE_NORTH
        east = (each[:, 1] - 0.5) * sides[1] / (KM_PER_DEGREE_EAST * np.cos(np.radians(latitude)))
        heights = settings.ground_altitude_m - _BELOW_M + (_ABOVE_M + _BELOW_M) * each[:, 2]
        stand = zip(latitude + north, longitude + east, heights, strict=True)
        try:
            receivers = [
                Receiver(name=f"R{place}", latitude=where[0], longitude=where[1], altitude_m=where[2])
                for place, where in enumerate(stand, start=1)
            ]
            return with_receivers(settings, receivers)
        except ValidationError:
            return None


def samples_of(settings: RadioSettings, seed: int) -> Generator | RandomNetworks:
    """What makes the samples of a scene."""
    return RandomNetworks(settings, seed) if settings.is_random else Generator(settings, seed)


def with_receivers(settings: RadioSettings, receivers: list[Receiver]) -> RadioSettings:
    """The same scene with these receivers, of which three are enough."""
    kept = {name: getattr(settings, name) for name in settings.scene_fields()}
    return RadioSettings(**kept | {"receivers": tuple(receivers), "min_receivers": 3})


def networks_in(
    settings: RadioSettings, arrays: dict[str, NDArray]
) -> list[tuple[Network, NDArray[np.intp]]]:
    """Each network of these samples, and the places of its samples."""
    count = len(arrays["detected"])
    if not settings.is_random:
        return [(Network.of(settings), np.arange(count))]
    places = np.stack([arrays[name] for name in ("east_km", "north_km", "rise_km")], axis=2)
    _, first, which = np.unique(places.reshape(count, -1), axis=0, return_index=True, return_inverse=True)
    found = []
    for number, sample in enumerate(first):
        stands = places[sample].any(axis=1)
        network = Network.placed(*places[sample][stands].astype(np.float64).T, settings)
        found.append((network, np.flatnonzero(which.reshape(-1) == number)))
    return found


def _places(network: Network, count: int) -> dict[str, NDArray]:
    columns = (*network.positions_km.T, network.rises_km)
    return {
        name: np.tile(column.astype(np.float32), (count, 1))
        for name, column in zip(("east_km", "north_km", "rise_km"), columns, strict=True)
    }
