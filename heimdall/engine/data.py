"""The data of a training: order and augmentation are a function of (seed, epoch, position).

Nothing of them is stored but the position, and a resume starts there without going through what came before.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from heimdall.engine.progress import Position
from heimdall.engine.rng import mix, mix_range, seed_again
from heimdall.processes import die_with_parent
from heimdall.recipes.base import Samples, TrainingRecipe

TRAINING, VALIDATION = "training", "validation"
BLOCK_SAMPLES = 4096  # whose order and seeds are worked out together


class Batch(NamedTuple):
    data: Any
    samples: int
    """That count; 0 where a short batch leaves none for this share, and others are in their place."""
    whole: int = 0
    """Samples of the batch that this is a share of."""


class Key(NamedTuple):
    """What a loader worker is asked for: samples of one source by number, each with its seed."""

    source: str
    indices: list[int]
    seeds: Sequence[int | None]
    samples: int
    whole: int

    @classmethod
    def of(cls, source: str, indices: list[int], seeds: Sequence[int | None]) -> "Key":
        return cls(source, indices, seeds, len(indices), len(indices))


class Shares(NamedTuple):
    """Which shares of each batch are this process's: so many from the first on, of so many in all."""

    first: int = 0
    count: int = 1  # type: ignore[assignment]  # nobody counts in a share
    of: int = 1

    def cut(self, key: Key) -> Iterator[Key]:
        for number in range(self.first, self.first + self.count):
            begin, end = (key.samples * (number + more) // self.of for more in (0, 1))
            if begin == end:
                yield key._replace(samples=0)
            else:
                indices, seeds = key.indices[begin:end], key.seeds[begin:end]
                yield Key(key.source, indices, seeds, end - begin, key.samples)


WHOLE = Shares()


class Data:
    """Batches of both sources, made in this process or by one set of loader workers."""

    def __init__(
        self,
        training: Samples,
        validation: Samples | None,
        *,
        collate: Callable[[list[Any]], Any],
        batch_size: int,
        grad_accumulation: int,
        seed: int,
        drop_last: bool = False,
        num_workers: int = 0,
        worker_setup: Callable[[int], None] | None = None,
        device: torch.device | str = "cpu",
        shares: Shares = WHOLE,
    ) -> None:
        self._shares = shares
        self._sizes = {TRAINING: len(training), VALIDATION: 0 if validation is None else len(validation)}
        if drop_last:
            self._sizes[TRAINING] -= len(training) % batch_size
        self._num_training_samples = len(training)
        self._batch_size = batch_size
        self._grad_accumulation = grad_accumulation
        self._seed = seed
        self._device = torch.device(device)
        self._keys = _Keys()
        sources = {TRAINING: training} if validation is None else {TRAINING: training, VALIDATION: validation}
        self._source = _Source(sources, collate)
        self._loader: DataLoader[Any] = DataLoader(
            self._source,
            batch_sampler=self._keys,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=worker_setup if num_workers else None,
            # Python 3.14 would have a server of its own fork them: then they have another parent than the trainer.
            multiprocessing_context="fork" if num_workers and sys.platform == "linux" else None,
            pin_memory=self._device.type == "cuda",
            # Without a generator of its own, iter(loader) would draw from torch's.
            generator=torch.Generator(),
        )

    @property
    def batches_per_epoch(self) -> int:
        return -(-self._sizes[TRAINING] // self._batch_size)

    @property
    def shares(self) -> int:
        """In how many pieces each batch comes here."""
        return self._shares.count

    @property
    def fewest_samples(self) -> int:
        """How many samples the smallest share of the last batch of an epoch has, of those that have any."""
        last = self._sizes[TRAINING] - (self.batches_per_epoch - 1) * self._batch_size
        return max(1, last // self._shares.of)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.batches_per_epoch // self._grad_accumulation)

    def samples_until(self, position: Position) -> int:
        """How many training samples a training that stands here has seen, repeated ones counted again."""
        size = self._sizes[TRAINING]
        return position.epoch * size + min(position.batches * self._batch_size, size)

    @property
    def has_validation(self) -> bool:
        return self._sizes[VALIDATION] > 0

    def rest_of_epoch(self, position: Position) -> Iterator[list[Batch]]:
        """The batches of each step that is left. The position is the caller's to move on."""
        if position.batches >= self.batches_per_epoch:
            return
        batches = self._batches(self._training_keys(position))
        if self._grad_accumulation * self.shares == 1:
            for batch in batches:
                yield [batch]
            return
        group = []
        for batch in batches:
            group.append(batch)
            if len(group) == self._grad_accumulation * self.shares:
                yield group
                group = []
        if group:
            yield group

    def last_batch(self) -> Any:
        """The last batch of the first epoch, made in this process."""
        position = Position(batches=self.batches_per_epoch - 1)
        (key,) = self._training_keys(position)
        return to_device(self._source.__getitems__(key)[-1], self._device)

    def validation(self, *, share: int | None = None) -> Iterator[Batch]:
        """All validation samples as they are, in order; or one share of each batch."""
        size = self._sizes[VALIDATION]
        keys = (
            Key.of(VALIDATION, list(indices), [None] * len(indices))
            for indices in (
                range(start, min(start + self._batch_size, size))
                for start in range(0, size, self._batch_size)
            )
        )
        if share is None:
            return self._made(keys)
        cut = self._shares._replace(first=share, count=1).cut
        return self._made(piece for key in keys for piece in cut(key) if piece.samples)

    def _training_keys(self, position: Position) -> Iterator[Key]:
        """Without a last batch that is left out: the order is that of all samples, so that each has its turn."""
        generator = torch.Generator().manual_seed(mix(self._seed, "order", position.epoch))
        order = torch.randperm(self._num_training_samples, generator=generator)
        seeds_from = mix(self._seed, "samples", position.epoch)
        size, batch_size = self._sizes[TRAINING], self._batch_size
        block = batch_size * max(1, BLOCK_SAMPLES // batch_size)
        for first in range(position.batches * batch_size, size, block):
            last = min(first + block, size)
            indices, seeds = order[first:last].tolist(), mix_range(seeds_from, first, last)
            for start in range(0, last - first, batch_size):
                part = slice(start, start + batch_size)
                yield Key.of(TRAINING, indices[part], seeds[part])

    def _batches(self, keys: Iterator[Key]) -> Iterator[Batch]:
        if self._shares.of == 1:
            return self._made(keys)
        return self._made(piece for key in keys for piece in self._shares.cut(key))

    def _made(self, keys: Iterator[Key]) -> Iterator[Batch]:
        self._loader.generator.manual_seed(self._seed)  # type: ignore[union-attr]
        self._keys.start(keys)
        moves = self._device.type != "cpu"
        for samples, whole, data in self._loader:
            yield Batch(to_device(data, self._device) if moves else data, samples, whole)


def build_data(
    recipe: TrainingRecipe,
    training: Samples,
    validation: Samples | None,
    *,
    worker_setup: Callable[[int], None] | None = None,
    device: torch.device | str = "cpu",
    shares: Shares = WHOLE,
    processes: int = 1,
) -> Data:
    """processes: how many of them divide the loader workers among themselves."""
    config = recipe.config
    return Data(
        training,
        validation,
        collate=recipe.collate,
        batch_size=config.batch_size,
        grad_accumulation=config.grad_accumulation,
        seed=config.seed,
        drop_last=config.drop_last,
        num_workers=-(-config.num_workers // processes),
        worker_setup=worker_setup,
        device=device,
        shares=shares,
    )


def split(samples: Samples, *, share: float, seed: int) -> tuple[Samples, Samples | None]:
    """Set a random share of the samples aside for validation: at least one, and never all."""
    size = len(samples)
    aside = min(size - 1, max(1, round(size * share))) if share else 0
    if aside <= 0:
        return samples, None
    order = torch.randperm(size, generator=torch.Generator().manual_seed(mix(seed, "split"))).tolist()
    return Subset(samples, sorted(order[aside:])), Subset(samples, sorted(order[:aside]))


class Subset:
    """Some of the samples, numbered anew."""

    def __init__(self, samples: Samples, indices: list[int]) -> None:
        self._samples = samples
        self._indices = indices
        if hasattr(samples, "batch"):
            self.batch = self._batch

    def __len__(self) -> int:
        return len(self._indices)

    def sample(self, index: int, seed: int | None) -> Any:
        return self._samples.sample(self._indices[index], seed)

    def _batch(self, indices: list[int], seeds: list[int | None]) -> Any:
        return self._samples.batch([self._indices[index] for index in indices], seeds)  # type: ignore[attr-defined]


def to_device(data: Any, device: torch.device) -> Any:
    if isinstance(data, Tensor):
        return data.to(device, non_blocking=True)
    if isinstance(data, dict):
        return {key: to_device(value, device) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(to_device(value, device) for value in data))
    if isinstance(data, list | tuple):
        return type(data)(to_device(value, device) for value in data)
    return data


class LoaderWorkerSetup:
    """What a loader worker does first: it will die with the trainer. (A fork closes the trainer's pipes.)"""

    def __init__(self) -> None:
        self._trainer_pid = os.getpid()

    def __call__(self, worker: int) -> None:
        die_with_parent(self._trainer_pid)
        torch.set_num_threads(1)


class _Keys:
    """The loader's batch sampler: it hands out whatever was started last."""

    def __init__(self) -> None:
        self._keys: Iterator[Key] = iter(())

    def start(self, keys: Iterator[Key]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[Any]:
        return self._keys


class _Source(Dataset[Any]):
    def __init__(self, sources: dict[str, Samples], collate: Callable[[list[Any]], Any]) -> None:
        self._sources = sources
        self._collate = collate

    def __getitems__(self, key: Key) -> tuple[int, int, Any]:
        if get_worker_info() is not None:
            # Transforms of others draw from the global generators. Here nothing saves them; in the trainer they are
            # a part.
            first = key.seeds[0]
            seed_again(mix(key.source, key.indices[0]) if first is None else first)
        samples = self._sources[key.source]
        make = getattr(samples, "batch", None)
        if make is not None:
            return key.samples, key.whole, make(key.indices, key.seeds)
        made = [samples.sample(index, seed) for index, seed in zip(key.indices, key.seeds, strict=True)]
        return key.samples, key.whole, self._collate(made)


def _as_it_is(batch: Any) -> Any:
    return batch
