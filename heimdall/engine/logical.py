"""Elastic trainings: a job has so many logical ranks for its whole life, whatever the number of its processes.

Each logical rank has its share of every batch and generators of its own. A process carries some of them, one after
the other, and all gradients are added up in one binary tree over the logical ranks: within a process by hand, between
processes in pairs. Two summands give the same sum in either order, so every tree is the same, and so are the bits.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from heimdall.engine.data import Batch
from heimdall.engine.errors import Refused
from heimdall.engine.loop import Read, Step
from heimdall.engine.packing import packed
from heimdall.engine.parts import BUFFERS, MODULES, OWN
from heimdall.engine.ranks import OneProcess, Ranks
from heimdall.engine.rng import Generators, mix
from heimdall.recipes.base import Part, split_loss

COMMON = "common"
"""The generators for what no logical rank draws, the same on every process."""


class LogicalGenerators(Generators):
    """The generators of those logical ranks that this process carries, of which one set is in use at a time."""

    def __init__(self, numbers: list[int], *, cuda_devices: int = 0) -> None:
        super().__init__(cuda_devices=cuda_devices)
        self._names = [COMMON, *map(str, numbers)]
        self._states: dict[str, dict[str, Any]] = {}
        self._current = COMMON

    def seed(self, seed: int, step: int = 0) -> None:
        for name in self._names[1:]:
            with super().set_aside(mix(seed, "rank", int(name), step)):
                self._states[name] = super().state_dict()

    def use(self, name: str) -> None:
        self._states[self._current] = super().state_dict()
        super().load_state_dict(self._states[name])
        self._current = name

    def state_dict(self) -> dict[str, Any]:
        self._states[self._current] = super().state_dict()
        return {name: self._states[name] for name in self._names if name in self._states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._states |= {name: state[name] for name in self._names if name in state}
        self._current = COMMON
        super().load_state_dict(self._states[COMMON])


class LogicalStep(Step):
    """One optimizer step over the shares of all logical ranks."""

    def __init__(
        self,
        *arguments: Any,
        generators: LogicalGenerators,
        numbers: list[int],
        ranks: Ranks | OneProcess,
        watched: Mapping[str, Part],
        **options: Any,
    ) -> None:
        """watched: all parts, of which some must not change while a loss is computed."""
        super().__init__(*arguments, **options)
        self._generators = generators
        self._numbers = numbers
        self._ranks = ranks
        self._watched = watched
        self._is_first = True

    def _add_gradients(self, batches: list[Batch]) -> list[Read]:
        before = self._state_of_watched() if self._is_first else {}
        count = len(self._numbers)
        whole = sum(batch.whole for batch in batches[::count])
        weights = [weight for weight in self._model.parameters() if weight.requires_grad]
        tree = _Tree()
        read: dict[int, Read] = {}
        for place, number in enumerate(self._numbers):
            self._generators.use(str(number))
            for index in range(place, len(batches), count):
                read[index] = self._loss_of(batches[index], whole)
            tree.add(_taken_gradients(weights))
        self._generators.use(COMMON)
        total = tree.total
        for level in range((self._ranks.count - 1).bit_length()):
            total = self._added_to_partner(total, self._ranks.number ^ (1 << level))
        _give(total, weights)
        if self._is_first:
            self._is_first = False
            _refuse_changed(before, self._state_of_watched())
        return [read[index] for index in range(len(batches))]

    def _loss_of(self, batch: Batch, whole: int) -> Read:
        with self._autocast:
            loss, means = split_loss(self._loss(self._model, batch.data))
        self._backward(loss * (batch.samples / whole))
        return batch.samples, loss.detach(), {name: mean.detach() for name, mean in means.items()}

    def _added_to_partner(self, total: list[Tensor], partner: int) -> list[Tensor]:
        theirs = [torch.empty_like(tensor) for tensor in total]
        operations = [
            dist.P2POp(way, tensor, partner)
            for mine, other in zip(total, theirs, strict=True)
            for way, tensor in ((dist.isend, mine), (dist.irecv, other))
        ]
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        torch._foreach_add_(theirs, total)
        return theirs

    def _state_of_watched(self) -> dict[str, bytes]:
        found = {
            name: packed(part.state_dict())
            for name, part in self._watched.items()
            if name in (MODULES, BUFFERS) or name.startswith(OWN)
        }
        return found | {f"model/{name}": packed(buffer) for name, buffer in self._model.named_buffers()}


class _Tree:
    """A sum in the order of a binary tree: of equal halves, and these of equal halves."""

    def __init__(self) -> None:
        self._halves: dict[int, list[Tensor]] = {}

    def add(self, tensors: list[Tensor]) -> None:
        level = 0
        while level in self._halves:
            first = self._halves.pop(level)
            torch._foreach_add_(first, tensors)
            tensors, level = first, level + 1
        self._halves[level] = tensors

    @property
    def total(self) -> list[Tensor]:
        ((_, total),) = self._halves.items()
        return total


def _taken_gradients(weights: list[nn.Parameter]) -> list[Tensor]:
    """One flat tensor for each type of number, and how many of the ranks have a gradient for each weight."""
    has_one = torch.tensor([float(weight.grad is not None) for weight in weights])
    flat: dict[torch.dtype, list[Tensor]] = {}
    for weight in weights:
        grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        flat.setdefault(grad.dtype, []).append(grad.reshape(-1))
        weight.grad = None
    device = weights[0].device
    return [has_one.to(device), *(torch.cat(grads) for grads in flat.values())]


def _give(total: list[Tensor], weights: list[nn.Parameter]) -> None:
    has_one, *flats = total
    left = {flat.dtype: flat for flat in flats}
    for weight, ranks in zip(weights, has_one.tolist(), strict=True):
        flat = left[weight.dtype]
        grad, left[weight.dtype] = flat[: weight.numel()], flat[weight.numel() :]
        weight.grad = grad.reshape(weight.shape) if ranks else None


def _refuse_changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    changed = sorted(name for name, state in after.items() if before.get(name) != state)
    if changed:
        raise Refused(
            "does_not_fit",
            f"devices: elastic gives the same bits on any number of devices, and {', '.join(changed[:5])} changed "
            "while a loss was computed: that depends on which samples a device has. Batch normalization does so: "
            "take GroupNorm or LayerNorm, or a fixed number of devices.",
        )
