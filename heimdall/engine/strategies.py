"""How a training is put together for the devices that it has: one, several, or any number of them."""

from typing import Any, Protocol

import torch
from torch import nn

from heimdall.engine.data import WHOLE, Shares
from heimdall.engine.errors import Refused
from heimdall.engine.logical import LogicalGenerators, LogicalStep
from heimdall.engine.loop import Step, Validation
from heimdall.engine.progress import EpochTotals
from heimdall.engine.rank_epoch import RankTotals, RankValidation
from heimdall.engine.rank_step import RankStep
from heimdall.engine.ranks import OneProcess, Ranks
from heimdall.engine.replicas import Replicas
from heimdall.engine.rng import Generators
from heimdall.engine.sharded import ShardedModel, ShardedOptimizer, ShardedStep, shard
from heimdall.recipes.base import Part, TrainingRecipe
from heimdall.recipes.demand import ELASTIC


class Strategy(Protocol):
    shares: Shares
    processes: int

    def generators(self, device: torch.device) -> Generators: ...

    def prepare(self, model: nn.Module, recipe: TrainingRecipe, device: torch.device) -> None:
        """The model is on its device, and the optimizer does not have its weights yet."""

    def as_saved(self, parts: dict[str, Part]) -> dict[str, Part]:
        """The parts as a session sees them."""

    def totals(self) -> EpochTotals: ...

    def step(self, *trained: Any, **options: Any) -> Step:
        """trained: model, optimizer, schedule and loss."""

    def validation(self, *validated: Any, **options: Any) -> Validation: ...

    def seed(self, seed: int) -> None:
        """Everything is built: from here on the generators are for training."""


def chosen(config: Any, ranks: Ranks | None) -> Strategy:
    if config.devices == ELASTIC:
        return Elastic(config.logical_ranks, ranks or OneProcess())
    if ranks is None:
        return OneDevice()
    return FullySharded(ranks) if config.strategy == "fsdp" else DataParallel(ranks)


def _cuda_devices(device: torch.device) -> int:
    return 1 if device.type == "cuda" else 0


class OneDevice:
    shares, processes = WHOLE, 1

    def prepare(self, model: nn.Module, recipe: TrainingRecipe, device: torch.device) -> None:
        """Nothing is done to it."""

    def as_saved(self, parts: dict[str, Part]) -> dict[str, Part]:
        return parts

    def generators(self, device: torch.device) -> Generators:
        return Generators(cuda_devices=_cuda_devices(device))

    def totals(self) -> EpochTotals:
        return EpochTotals()

    def step(self, *trained: Any, **options: Any) -> Step:
        options.pop("watched")
        return Step(*trained, **options)

    def validation(self, *validated: Any, **options: Any) -> Validation:
        return Validation(*validated, **options)

    def seed(self, seed: int) -> None:
        """They have been seeded, and the building has drawn from them."""


class DataParallel(OneDevice):
    """Each rank has the whole model."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.shares, self.processes = Shares(ranks.number, 1, ranks.count), ranks.count

    def totals(self) -> EpochTotals:
        return RankTotals(self._ranks)

    def step(self, *trained: Any, **options: Any) -> Step:
        model, _, _, loss = trained
        device = next(model.parameters()).device
        replicas = Replicas(model, loss, device=device)
        options.pop("watched")
        return RankStep(*trained, replicas=replicas, ranks=self._ranks.count, **options)

    def validation(self, *validated: Any, **options: Any) -> Validation:
        return RankValidation(*validated, ranks=self._ranks, numbers=[self._ranks.number], **options)

    def seed(self, seed: int) -> None:
        self._ranks.seed(seed)


class FullySharded(DataParallel):
    """Each rank has a share of every weight, and of what the optimizer keeps of it."""

    def prepare(self, model: nn.Module, recipe: TrainingRecipe, device: torch.device) -> None:
        shard(model, recipe, ranks=self._ranks, device=device)

    def as_saved(self, parts: dict[str, Part]) -> dict[str, Part]:
        model: Any = parts["model"]
        optimizer: Any = parts["optimizer"]
        return parts | {
            "model": ShardedModel(model, self._ranks),
            "optimizer": ShardedOptimizer(optimizer, self._ranks),
        }

    def step(self, *trained: Any, **options: Any) -> Step:
        options.pop("watched")
        return ShardedStep(*trained, ranks=self._ranks, **options)

    def validation(self, *validated: Any, **options: Any) -> Validation:
        """A forward pass gathers the weights: all ranks make the same ones."""
        return RankValidation(*validated, ranks=self._ranks, numbers=[], **options)


class Elastic(OneDevice):
    """Each process carries several logical ranks."""

    def __init__(self, logical_ranks: int, ranks: Ranks | OneProcess) -> None:
        if logical_ranks % ranks.count or ranks.count & (ranks.count - 1):
            raise Refused(
                "does_not_fit",
                f"A job of {logical_ranks} logical ranks cannot run on {ranks.count} devices: their number is a "
                f"power of two up to {logical_ranks}.",
            )
        count = logical_ranks // ranks.count
        self._ranks, self.processes = ranks, ranks.count
        self.shares = Shares(ranks.number * count, count, logical_ranks)
        self._numbers = list(range(self.shares.first, self.shares.first + count))
        self._generators = LogicalGenerators(self._numbers)

    def generators(self, device: torch.device) -> Generators:
        self._generators = LogicalGenerators(self._numbers, cuda_devices=_cuda_devices(device))
        return self._generators

    def totals(self) -> EpochTotals:
        return RankTotals(self._ranks, shares=self.shares.count)

    def step(self, *trained: Any, **options: Any) -> Step:
        return LogicalStep(
            *trained, generators=self._generators, numbers=self._numbers, ranks=self._ranks, **options
        )

    def validation(self, *validated: Any, **options: Any) -> Validation:
        return RankValidation(*validated, ranks=self._ranks, numbers=self._numbers, **options)

    def seed(self, seed: int) -> None:
        self._generators.seed(seed)
