"""A script's own data, read so that a resume can begin in the middle of an epoch.

A map-style DataLoader is taken apart and made again with a batch sampler that has a position:

- its sampler is asked for *indices* under a seed of (seed, epoch) and cut at the position, so that nothing is read
  to skip;
- in loader workers each batch seeds the global generators by (seed, epoch, position), for nothing there survives a
  pause; without workers the draws come from the training process's generators, which are saved anyway (where a
  framework reads a batch ahead, that batch has generators of its own there too);
- the loader owns a generator, so that `iter()` draws nothing.

What has a `state_dict` of its own (torchdata's StatefulDataLoader over an IterableDataset, streaming datasets) is
asked for it. What has no position at all is read again up to it, and the job says so.
"""

import itertools
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from heimdall.engine.rng import Generators, mix, mix_range, seed_again

AHEAD_OF_TORCH = 1024  # batches whose indices are drawn together, of samplers that torch brings
AHEAD_OF_OTHERS = 64  # ... and of those that may look at the training
GENERATOR_TYPES = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class BatchKey(NamedTuple):
    """What the rebuilt loader is asked for: a batch by its indices, and what its draws are seeded with."""

    seed: int
    indices: Any


class BatchSource(Protocol):
    """Batches of one loader. `position` counts those of the epoch whose bodies are over."""

    why_approximate: str

    def batches(self, epoch: int, call: int, position: int) -> Iterator[Any]:
        """The batches of the epoch's call with this number (both from 0), without the first `position`."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class KeyedLoader:
    """A map-style DataLoader with a position."""

    why_approximate = ""

    def __init__(
        self,
        loader: DataLoader[Any],
        *,
        seed: int,
        worker_setup: Callable[[int], None] | None = None,
        is_read_ahead: bool = False,
        rank_of: tuple[int, int] = (0, 1),
    ) -> None:
        self._batch_sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        self._seed = seed
        self._rank, self._ranks = (0, 1) if _is_sharded(self._batch_sampler) else rank_of
        self._own = _generators_in(loader, self._batch_sampler, getattr(loader, "sampler", None))
        self._own_at_start: list[Any] | None = None
        self._began = (-1, 0)
        self._keys = _KeySampler()
        dataset = _KeyedDataset(
            loader.dataset,
            loader.collate_fn,
            is_batched=loader.batch_sampler is not None,
            is_read_ahead=is_read_ahead,
        )
        self.rebuilt = _rebuilt(loader, dataset, self._keys, worker_setup)

    def batches(self, epoch: int, call: int, position: int) -> Iterator[Any]:
        self._begin(epoch, call)
        draws = SeparateDraws(mix(self._seed, "order", epoch, call))
        indices = itertools.islice(_drawn_ahead(self._batch_sampler, draws), position, None)
        own = (_share(batch, self._rank, self._ranks) for batch in indices) if self._ranks > 1 else indices
        words = ("samples", epoch, call, *(["rank", self._rank] if self._rank else []))
        self._keys.start(_keyed(own, mix(self._seed, *words), position))
        generator = self.rebuilt.generator
        assert generator is not None
        generator.manual_seed(mix(self._seed, "workers", epoch, call, position) % 2**63)
        return iter(self.rebuilt)

    def _begin(self, epoch: int, call: int) -> None:
        """Samplers with generators of their own draw from them epoch after epoch: each begins as it first did."""
        for sampler in {id(one): one for one in (self._batch_sampler, _inner(self._batch_sampler))}.values():
            set_epoch = getattr(sampler, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)
        if self._own_at_start is not None and self._began == (epoch, call):
            _set_states(self._own, self._own_at_start)
        self._own_at_start, self._began = _states(self._own), (epoch, call)

    def state_dict(self) -> dict[str, Any]:
        return {"began": list(self._began), "generators": self._own_at_start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._began, self._own_at_start = tuple(state["began"]), state["generators"]


class StatefulSource:
    """What tells its own position."""

    why_approximate = ""

    def __init__(self, loader: Any, stateful: Any, *, seed: int) -> None:
        self._loader, self._stateful, self._seed = loader, stateful, seed
        self._restored: dict[str, Any] | None = None

    def batches(self, epoch: int, call: int, position: int) -> Iterator[Any]:
        set_epoch = getattr(getattr(self._loader, "dataset", self._loader), "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)
        restored, self._restored = self._restored, None
        if restored is not None:
            self._stateful.load_state_dict(restored)
        with Generators().set_aside(mix(self._seed, "workers", epoch, call, position)):
            return iter(self._loader)

    def state_dict(self) -> dict[str, Any]:
        return {"state": self._stateful.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._restored = state["state"]


class SequenceSource:
    """A list, a range: it is indexed."""

    why_approximate = ""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items

    def batches(self, epoch: int, call: int, position: int) -> Iterator[Any]:
        return (self._items[number] for number in range(position, len(self._items)))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class ReplayedSource:
    """What has no position: a resume reads it again up to where it was, under generators of the epoch's own."""

    def __init__(self, items: Iterable[Any], *, seed: int) -> None:
        self._items, self._seed = items, seed
        self.why_approximate = (
            f"its data ({type(items).__name__}) has no position, so that a resume reads it again from the epoch's "
            "beginning"
        )

    def batches(self, epoch: int, call: int, position: int) -> Iterator[Any]:
        draws = SeparateDraws(mix(self._seed, "order", epoch, call))
        with draws():
            items = iter(self._items)
            for _ in itertools.islice(items, position):
                pass
        while True:
            with draws():
                item = next(items, _END)
            if item is _END:
                return
            yield item

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class SeparateDraws:
    """The global generators of the CPU, seeded once, for the time of each `with`; outside nothing seems drawn."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._inside: tuple[Any, ...] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        outside = _global_states()
        if self._inside is None:
            seed_again(self._seed)
        else:
            _set_global_states(self._inside)
        try:
            yield
        finally:
            self._inside = _global_states()
            _set_global_states(outside)


def _global_states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()


def _set_global_states(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


_END = object()


def _drawn_ahead(sampler: Iterable[Any], draws: SeparateDraws) -> Iterator[Any]:
    """The sampler's batches of indices, drawn a number at a time: exchanging generators for each would cost more
    than small steps do."""
    ahead = AHEAD_OF_TORCH if _is_torchs(sampler) else AHEAD_OF_OTHERS
    batches: Iterator[Any] | None = None
    while True:
        with draws():
            batches = iter(sampler) if batches is None else batches
            drawn = list(itertools.islice(batches, ahead))
        yield from drawn
        if len(drawn) < ahead:
            return


def _keyed(batches: Iterator[Any], seeds_from: int, position: int) -> Iterator[BatchKey]:
    for first in itertools.count(position, AHEAD_OF_TORCH):
        for seed in mix_range(seeds_from, first, first + AHEAD_OF_TORCH):
            indices = next(batches, _END)
            if indices is _END:
                return
            yield BatchKey(seed, indices)


def _is_torchs(sampler: Any) -> bool:
    """Whether the batches and what they are made of come from torch.utils.data."""
    each = (sampler, _inner(sampler))
    return all(type(one).__module__.startswith("torch.utils.data") for one in each)


def _is_sharded(batch_sampler: Any) -> bool:
    """Whether the script has said itself what each process reads, as with torch's DistributedSampler."""
    names = ("num_replicas", "num_processes")  # of torch, and of Accelerate
    return any(hasattr(one, name) for one in (batch_sampler, _inner(batch_sampler)) for name in names)


def _share(indices: Any, rank: int, ranks: int) -> Any:
    """What one process reads of a batch of all. Of a batch with fewer samples than there are processes some are
    read twice, as torch's DistributedSampler does."""
    if not isinstance(indices, list | tuple):
        raise TypeError(
            "job.batches() cuts each batch among the devices, and this DataLoader has batch_size=None: give it a "
            "batch size, or a DistributedSampler"
        )
    count = len(indices)
    begin, end = rank * count // ranks, (rank + 1) * count // ranks
    return indices[begin:end] or [indices[rank % count]]


def _inner(batch_sampler: Any) -> Any:
    return getattr(batch_sampler, "sampler", batch_sampler)


class _KeySampler(Sampler[BatchKey]):
    """The rebuilt loader's sampler: it hands out whatever was started last."""

    def __init__(self) -> None:
        self._keys: Iterator[BatchKey] = iter(())

    def start(self, keys: Iterator[BatchKey]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[BatchKey]:
        return self._keys


class _KeyedDataset(Dataset[Any]):
    """The script's dataset and collate function, asked for whole batches by key."""

    def __init__(
        self, dataset: Any, collate: Callable[[Any], Any], *, is_batched: bool, is_read_ahead: bool
    ) -> None:
        self._dataset, self._collate = dataset, collate
        self._is_batched, self._is_read_ahead = is_batched, is_read_ahead
        self._many = getattr(dataset, "__getitems__", None)

    def __getitem__(self, key: BatchKey) -> Any:
        if get_worker_info() is not None:
            seed_again(key.seed)
        elif self._is_read_ahead:
            with SeparateDraws(key.seed)():
                return self._made(key.indices)
        return self._made(key.indices)

    def _made(self, indices: Any) -> Any:
        dataset = self._dataset
        if not self._is_batched:
            return self._collate(dataset[indices])
        if self._many is not None:
            return self._collate(self._many(indices))
        return self._collate([dataset[index] for index in indices])


def _rebuilt(
    loader: DataLoader[Any],
    dataset: _KeyedDataset,
    keys: _KeySampler,
    worker_setup: Callable[[int], None] | None,
) -> DataLoader[Any]:
    workers = loader.num_workers
    context = loader.multiprocessing_context
    if context is None and workers and sys.platform == "linux":
        context = "fork"  # Python 3.14 would have a server of its own fork them, with another parent
    made: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=None,
        sampler=keys,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=_WorkerSetup(worker_setup, loader.worker_init_fn) if workers else None,
        multiprocessing_context=context,
        generator=torch.Generator(),
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
    return made


class _WorkerSetup:
    """What a loader worker does first: ours, then the script's own."""

    def __init__(self, ours: Callable[[int], None] | None, theirs: Callable[[int], None] | None) -> None:
        self._each = [setup for setup in (ours, theirs) if setup is not None]

    def __call__(self, worker: int) -> None:
        for setup in self._each:
            setup(worker)


def _as_it_is(batch: Any) -> Any:
    return batch


def _generators_in(*holders: Any) -> list[Any]:
    """Generators that a loader or its samplers hold, each once, in a fixed order."""
    found: dict[int, Any] = {}
    for holder in holders:
        for part in (holder, _inner(holder)):
            for _, value in sorted(getattr(part, "__dict__", {}).items()):
                if isinstance(value, GENERATOR_TYPES):
                    found[id(value)] = value
    return list(found.values())


def _states(generators: list[Any]) -> list[Any]:
    return [_state(generator) for generator in generators]


def _state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.getstate()


def _set_states(generators: list[Any], states: list[Any]) -> None:
    for generator, state in zip(generators, states, strict=True):
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = state
        elif isinstance(generator, random.Random):
            generator.setstate(state)
        else:
            generator.set_state(state)
