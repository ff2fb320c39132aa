"""Parts that are made of what a recipe gives: its own, its generators, and buffers that torch would leave out."""

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heimdall.recipes.base import Part

GENERATORS = "rng"
BUFFERS = "buffers"
MODULES = "modules"
GENERATOR_TYPES = (torch.Generator, np.random.Generator, random.Random)
OWN = "recipe_"  # begins the names of the recipe's own parts


def own_parts(parts: Mapping[str, Any]) -> dict[str, Part]:
    """What the recipe's `parts()` gave, by the names that they have in a checkpoint."""
    return {OWN + name: as_part(part, f"the part {name!r} of parts()") for name, part in parts.items()}


def require_part(part: Any, what: str) -> None:
    """Refuse now what could not be saved at the first checkpoint, hours later."""
    for method in ("state_dict", "load_state_dict"):
        if not callable(getattr(part, method, None)):
            raise TypeError(
                f"{what} ({type(part).__name__}) has no {method}(), so that it would not survive a pause"
            )


def as_part(part: Any, what: str) -> Part:
    if isinstance(part, GENERATOR_TYPES):
        return OneGenerator(part)
    require_part(part, what)
    return part  # type: ignore[no-any-return]


class OneGenerator:
    """A generator of the recipe's own."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def state_dict(self) -> dict[str, Any]:
        if isinstance(self._generator, torch.Generator):
            return {"torch": self._generator.get_state()}
        if isinstance(self._generator, np.random.Generator):
            return {"numpy": self._generator.bit_generator.state}
        return {"python": self._generator.getstate()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self._generator, torch.Generator):
            self._generator.set_state(state["torch"])
        elif isinstance(self._generator, np.random.Generator):
            self._generator.bit_generator.state = state["numpy"]
        else:
            self._generator.setstate(state["python"])


class PassingBuffers:
    """Those buffers outside a state_dict (persistent=False) that the training has changed.

    Most of them are tables that the model is built with, and need no place in each checkpoint.
    """

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        self._models = models
        self._built = {path: copy.deepcopy(buffer) for path, buffer in self._now()}

    def __bool__(self) -> bool:
        return bool(self._built)

    def state_dict(self) -> dict[str, Any]:
        return {path: buffer for path, buffer in self._now() if not _same(buffer, self._built.get(path))}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for path, value in state.items():
            model, _, place = path.partition("/")
            module, _, name = place.rpartition(".")
            _put(self._models[model].get_submodule(module), name, value)

    def _now(self) -> Iterator[tuple[str, Tensor | None]]:
        for name, model in self._models.items():
            for path, module in model.named_modules():
                for buffer in sorted(module._non_persistent_buffers_set):
                    yield f"{name}/{path}.{buffer}".replace("/.", "/"), module._buffers.get(buffer)


def _same(now: Tensor | None, built: Tensor | None) -> bool:
    if now is None or built is None:
        return now is built
    return now.dtype == built.dtype and now.shape == built.shape and torch.equal(now, built)


def _put(module: nn.Module, name: str, value: Tensor | None) -> None:
    now = module._buffers.get(name)
    if value is None or now is None or now.shape != value.shape or now.dtype != value.dtype:
        weight = next(module.parameters(), now)
        device = "cpu" if weight is None else weight.device
        module.register_buffer(name, None if value is None else value.to(device), persistent=False)
    else:
        now.copy_(value)
