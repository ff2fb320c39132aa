"""Distributed data parallel: each rank has the whole model, its share of each batch, and all ranks' gradients."""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from heimdall.recipes.base import Loss

WARM_UP_PASSES = 2
_WARM_UP = object()


class _LossOf(nn.Module):
    """The recipe's loss as a module, so that the recipe is given its own model and not one that is wrapped."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any], Loss]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, batch: Any) -> Any:
        if batch is _WARM_UP:
            return sum(_a_zero_of(weight) for weight in self.model.parameters() if weight.requires_grad)
        return self._loss(self.model, batch)


class Replicas:
    """The model on every rank. Its gradients are averaged while the last backward pass of a step goes on.

    torch lays the gradients into buckets, and after the first backward pass lays them once more, in the order in
    which they came. A sum over three ranks depends on where in a bucket a gradient lies: a resumed training would add
    up its first step in another order than an undisturbed one. So the second order is there before the first step:
    two passes over a sum of the weights, which draw no number and change no statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, Any], Loss],
        *,
        device: torch.device,
    ) -> None:
        self._module = _LossOf(model, loss)
        self._model = model
        self._device_ids = [device.index] if device.type == "cuda" else None
        self._trained: list[bool] = []
        self._wrapped: DistributedDataParallel | None = None

    def begin_step(self) -> None:
        """A weight that is trained from now on, or not any more, changes what lies in the buckets."""
        trained = [weight.requires_grad for weight in self._model.parameters()]
        if trained != self._trained:
            self._trained = trained
            self._wrap()

    def __call__(self, batch: Any) -> Any:
        assert self._wrapped is not None, "begin_step() comes first"
        return self._wrapped(batch)

    def no_sync(self) -> AbstractContextManager[None]:
        assert self._wrapped is not None, "begin_step() comes first"
        return self._wrapped.no_sync()

    def _wrap(self) -> None:
        self._wrapped = None  # two at once would both add up
        self._wrapped = DistributedDataParallel(self._module, device_ids=self._device_ids)
        for _ in range(WARM_UP_PASSES):
            self._wrapped(_WARM_UP).backward()
        for weight in self._model.parameters():
            weight.grad = None


def warm_up() -> None:
    """Bring the gradients of each model that a script has wrapped into their final order, as Replicas does."""
    for wrapped in gc.get_objects():
        if isinstance(wrapped, DistributedDataParallel):
            _pass_through(wrapped)


def _pass_through(wrapped: DistributedDataParallel) -> None:
    weights = [weight for weight in wrapped.module.parameters() if weight.requires_grad]
    own = vars(wrapped.module).get("forward")
    wrapped.module.forward = lambda *_, **__: sum(map(_a_zero_of, weights))  # type: ignore[method-assign]
    try:
        for _ in range(WARM_UP_PASSES):
            wrapped(None).backward()
    finally:
        del wrapped.module.forward
        if own is not None:
            wrapped.module.forward = own
        for weight in weights:
            weight.grad = None


def _a_zero_of(weight: Tensor) -> Tensor:
    real = torch.view_as_real(weight) if weight.is_complex() else weight
    return real.sum().float() * 0.0
