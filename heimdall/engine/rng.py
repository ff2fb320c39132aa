"""The random generators as a part, and seeds that are a function of what they are for."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def mix(*words: int | str) -> int:
    """A seed of 63 bits for (seed, purpose, number): equal words give equal seeds, on every machine."""
    digest = hashlib.sha256(repr(words).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def mix_range(seed: int, start: int, stop: int) -> list[int]:
    """A seed of 63 bits for each position from start to stop (splitmix64)."""
    z = np.arange(start + 1, stop + 1, dtype=np.uint64)
    z = z * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    seeds: list[int] = ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).tolist()
    return seeds


def seed_all(seed: int) -> None:
    """For a training's start: devices that are not in use yet get the seed when they are."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_again(seed: int) -> None:
    """What draws from now on, a hundred times faster: torch.manual_seed() writes down the caller's stack for each
    device that is not in use."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


class Generators:
    """Python's, numpy's and torch's generators and that of each CUDA device. The part that is loaded last."""

    def __init__(self, *, cuda_devices: int = 0) -> None:
        self._cuda_devices = cuda_devices
        self._carried: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        state = {"python": _python_state(), "numpy": _numpy_state(), "torch": torch.get_rng_state()}
        for number in range(self._cuda_devices):
            state[f"cuda_{number}"] = torch.cuda.get_rng_state(number)
        return self._carried | state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        version, words, gauss = (state["python"][key] for key in ("version", "words", "gauss"))
        random.setstate((version, tuple(words.tolist()), gauss))
        name, words, position, has_gauss, cached = (
            state["numpy"][key] for key in ("name", "words", "position", "has_gauss", "cached_gaussian")
        )
        np.random.set_state((name, words.numpy().astype(np.uint32), position, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        # A device that is not here now may be here at the next resume: its state is carried on.
        self._carried = {}
        for key in (key for key in state if key.startswith("cuda_")):
            number = int(key.removeprefix("cuda_"))
            if number < self._cuda_devices:
                torch.cuda.set_rng_state(state[key], number)
            else:
                self._carried[key] = state[key]

    @contextmanager
    def set_aside(self, seed: int) -> Iterator[None]:
        """Draw from freshly seeded generators for a while; afterwards these are as they were before."""
        state = self.state_dict()
        seed_again(seed)
        try:
            yield
        finally:
            self.load_state_dict(state)


def _python_state() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    return {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss}


def _numpy_state() -> dict[str, Any]:
    name, words, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "name": str(name),
        "words": torch.from_numpy(np.asarray(words).astype(np.int64)),
        "position": int(position),
        "has_gauss": int(has_gauss),
        "cached_gaussian": float(cached),
    }
