"""What a recipe gives the engine.

A package's `recipe.py` has one class named `Recipe`. For a training it extends `TrainingRecipe`, for synthetic
data `GenerationRecipe`. Its config is the package's own `Config`, checked and complete.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import default_collate

Loss = Tensor | tuple[Tensor, Mapping[str, Tensor]]
"""The mean loss of a batch, with or without further means of it by name (`{"accuracy": ...}`)."""

FINGERPRINTED_SAMPLES = 64
ROW_NAMES = frozenset({"step", "epoch", "loss", "learning_rate", "grad_norm"})
"""What a step's row of metrics holds already."""

_NO_MEANS: Mapping[str, Tensor] = {}


class Samples(Protocol):
    """Numbered samples. Every random draw comes from the seed and from nowhere else."""

    def __len__(self) -> int: ...

    def sample(self, index: int, seed: int | None) -> Any:
        """One sample. The seed is another one at each epoch; None (in validation) asks for it as it is.

        Samples that are quicker to make together may have `batch(indices, seeds)` beside `sample`: it gets
        two lists of equal length and returns the finished batch, and `collate` is not asked.
        """


class Part(Protocol):
    """Something that must survive a pause."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True)
class Plan:
    """How long the training is, in epochs and in steps."""

    epochs: int
    steps_per_epoch: int
    warmup_steps: int

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch


class Evaluation:
    """What one validation adds up; each has a new one. This one takes the mean of the recipe's loss."""

    def __init__(self, recipe: "TrainingRecipe") -> None:
        self.recipe = recipe
        self.sums: dict[str, Tensor] = {}
        self.given: dict[str, int] = {}
        """The samples that each mean was given for."""

    @property
    def can_be_split(self) -> bool:
        """Whether several devices may each go through a share of the data. One with an `update` of its own says so
        itself, and has a `partial` and a `take_together` for what it adds up beside the means; else each device goes
        through all of it."""
        return type(self).update is Evaluation.update

    def partial(self) -> dict[str, Any]:
        """What this device has added up, in a form that a checkpoint could keep."""
        return {"sums": {name: total.cpu() for name, total in self.sums.items()}, "given": self.given}

    def take_together(self, partials: list[dict[str, Any]]) -> None:
        """Become the evaluation of all devices. `partials` come in one order, whichever device asks."""
        self.sums, self.given = {}, {}
        for partial in partials:
            for name, total in partial["sums"].items():
                self.sums[name] = self.sums[name] + total if name in self.sums else total
                self.given[name] = self.given.get(name, 0) + partial["given"][name]

    def update(self, model: nn.Module, batch: Any, samples: int) -> None:
        """Take in a batch of so many samples. The model is in eval mode; gradients are off."""
        loss, means = split_loss(self.recipe.loss(model, batch))
        self.add({"loss": loss, **means}, samples)

    def add(self, means: Mapping[str, Tensor], samples: int) -> None:
        for name, mean in means.items():
            value = mean.detach().double() * samples
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.given[name] = self.given.get(name, 0) + samples

    def result(self) -> dict[str, float]:
        """The epoch's values. `val_loss` must be among them: it says which epoch is the best.

        It may set a part of the recipe's own: no stop and no checkpoint comes between this and the epoch's end.
        """
        return {f"val_{name}": float(total) / self.given[name] for name, total in self.sums.items()}

    def artifact(self) -> Mapping[str, Any] | None:
        """What people may look at beside the values: plain JSON with a `kind`, of at most 64 kB.

        Asked for after `result`. Only the newest one is kept, with the job and in no checkpoint.
        """
        return None


class TrainingRecipe(ABC):
    """Builds what a training is made of. Each method is called once, after the generators are seeded."""

    def __init__(self, config: Any, scratch: Path) -> None:
        self.config = config
        self.scratch = scratch

    @abstractmethod
    def training_samples(self) -> Samples: ...

    @abstractmethod
    def model(self) -> nn.Module: ...

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Loss: ...

    def validation_samples(self) -> Samples | None:
        """None: the engine sets `validation_split` of the training samples aside."""
        return None

    def collate(self, samples: list[Any]) -> Any:
        """Make a batch of samples. Runs in the loader workers."""
        return default_collate(samples)

    def evaluation(self) -> Evaluation:
        return Evaluation(self)

    def optimizer(self, model: nn.Module) -> Optimizer | None:
        """None: what the config asks for."""
        return None

    def sharded_blocks(self, model: nn.Module) -> list[nn.Module]:
        """With strategy: fsdp, the modules whose weights are gathered one at a time, such as the layers of a
        transformer. None: all weights at once."""
        return []

    def scheduler(self, optimizer: Optimizer, plan: Plan) -> Any | None:
        """None: what the config asks for. Another one is stepped after each step."""
        return None

    def parts(self) -> dict[str, Part]:
        """What of the recipe's own must survive a pause."""
        return {}

    def fingerprint(self, training: Samples, validation: Samples | None) -> str:
        """Names the data: no training is resumed on other data. This one takes up to 64 samples of each."""
        digest = hashlib.sha256()
        for samples in (training, validation):
            if samples is not None:
                _digest_samples(samples, digest)
        return digest.hexdigest()


class GenerationRecipe(ABC):
    """Writes synthetic data in shards. Finished shards are the progress; there is nothing to pause."""

    def __init__(self, config: Any, scratch: Path) -> None:
        self.config = config
        self.scratch = scratch

    @property
    def shards(self) -> int:
        return -(-self.config.samples // self.config.samples_per_shard)

    @abstractmethod
    def generate(self, shard: int, folder: Path) -> tuple[Path, dict[str, Any]]:
        """Write shard 0, 1, ... as one file in the folder; return its path and a summary (numbers, texts).

        The config and the shard's number alone say what it writes: a shard that was cut short is made again.
        """


def split_loss(loss: Loss) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss and the further means of a batch, each of them one value."""
    mean, means = loss if isinstance(loss, tuple) else (loss, _NO_MEANS)
    _require_one_value(mean, "the loss")
    for name, value in means.items():
        if name in ROW_NAMES:
            raise ValueError(
                f"loss() gives a mean by the name {name!r}, which every step has: call it otherwise"
            )
        _require_one_value(value, f"the mean {name!r}")
    return mean, means


def _require_one_value(mean: Any, what: str) -> None:
    if not isinstance(mean, Tensor) or mean.numel() != 1:
        found = f"shape {tuple(mean.shape)}" if isinstance(mean, Tensor) else type(mean).__name__
        raise TypeError(
            f"loss() gives {what} as {found}: give a tensor with one value, the mean of the batch"
        )


def _digest_samples(samples: Samples, digest: Any) -> None:
    count = len(samples)
    digest.update(b"samples %d" % count)
    for number in range(min(count, FINGERPRINTED_SAMPLES)):
        _digest_value(samples.sample(number * count // min(count, FINGERPRINTED_SAMPLES), None), digest)


def _digest_value(value: Any, digest: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in value:
            digest.update(repr(key).encode())
            _digest_value(value[key], digest)
    elif isinstance(value, list | tuple):
        for item in value:
            _digest_value(item, digest)
    elif hasattr(value, "tobytes"):
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    else:
        digest.update(repr(value).encode())
