"""A counter-based generator: every number is a function of (key, index, try, place), and of nothing else.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), on whole arrays,
because one generator object for each sample would be slower than the physics. No state, so nothing to save
and nothing to share.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[int, int]
) -> tuple[Words, Words, Words, Words]:
    """Ten rounds over four 32-bit words of equal shape, each held in a uint64."""
    a, b, c, d = counter
    low, high = key
    for _ in range(_ROUNDS):
        first = a * _MULTIPLIERS[0]
        second = c * _MULTIPLIERS[1]
        a = second >> _SHIFT
        a ^= b
        a ^= np.uint64(low)
        b = second
        b &= _WORD
        c = first >> _SHIFT
        c ^= d
        c ^= np.uint64(high)
        d = first
        d &= _WORD
        low = (low + _WEYL[0]) & 0xFFFFFFFF
        high = (high + _WEYL[1]) & 0xFFFFFFFF
    return a, b, c, d


def uniforms(key: int, indices: Words, attempt: int, places: Sequence[int]) -> Floats:
    """Four numbers in (0, 1) for each place, shape (4 * places, indices); row 4 p + w is word w of place
    p."""
    indices = np.ascontiguousarray(indices, dtype=np.uint64)
    shape = (len(places), len(indices))
    words = philox(
        (
            np.broadcast_to(indices & _WORD, shape),
            np.broadcast_to(indices >> _SHIFT, shape),
            np.full(shape, attempt, np.uint64),
            np.broadcast_to(np.array(places, np.uint64)[:, None], shape),
        ),
        (key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF),
    )
    numbers = np.empty((len(places), 4, len(indices)))
    for place, word in enumerate(words):
        numbers[:, place] = word
    numbers += 0.5
    numbers *= 2.0**-32
    return numbers.reshape(4 * len(places), len(indices))


def normals(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Two independent standard normals from two uniforms (Box and Muller)."""
    radius = np.sqrt(-2.0 * np.log(first))
    angle = (2.0 * np.pi) * second
    return radius * np.cos(angle), radius * np.sin(angle)
