"""The moving average of the weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of a model's weights, as a model of its own. Buffers are copied.

    In the first steps the decay is smaller, (1 + n) / (10 + n), so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        self._updates = 0
        source, target = dict(model.named_parameters()), dict(self.model.named_parameters())
        self._pairs: list[tuple[Tensor, Tensor]] = [(target[name], source[name]) for name in source]
        # By name, for a model may put another tensor in the place of a buffer at each step.
        modules = zip(self.model.modules(), model.modules(), strict=True)
        self._buffers = [(ours._buffers, its._buffers) for ours, its in modules if its._buffers]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        self._updates += 1
        averages = [average for average, _ in self._pairs]
        torch._foreach_lerp_(averages, [weight.detach() for _, weight in self._pairs], 1 - decay)
        for ours, its in self._buffers:
            for name, value in its.items():
                _copy_buffer(ours, name, value)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._updates = state["updates"]
        self.model.load_state_dict(state["model"])


def _copy_buffer(buffers: dict[str, Tensor | None], name: str, value: Tensor | None) -> None:
    now = buffers.get(name)
    if now is None or value is None or now.shape != value.shape or now.dtype != value.dtype:
        buffers[name] = None if value is None else value.detach().clone()
    else:
        now.copy_(value)
