"""The rest of an epoch is the same after any batch as it was without a stop, for loaders of all kinds."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
)

from heimdall.attached.loaders import KeyedLoader, ReplayedSource, SequenceSource, StatefulSource
from heimdall.attached.sources import source_of
from heimdall.engine.rng import Generators, seed_all

SIZE = 23


class Noisy(Dataset):
    """Draws from every global generator for each sample."""

    reads = 0

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        Noisy.reads += 1
        return torch.tensor([index, torch.rand(()).item(), np.random.rand(), random.random()])


class Backwards(Sampler):
    def __init__(self, generator=None):
        self.generator = generator

    def __len__(self):
        return SIZE

    def __iter__(self):
        shift = self.generator.integers(SIZE) if self.generator is not None else random.randrange(SIZE)
        return iter([(SIZE - 1 - number + int(shift)) % SIZE for number in range(SIZE)])


class Epochs(Sampler):
    """Another order for each set_epoch, as DistributedSampler has it."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return SIZE

    def __iter__(self):
        return iter(torch.randperm(SIZE, generator=torch.Generator().manual_seed(self.epoch)).tolist())


class Endless(Sampler):
    def __iter__(self):
        while True:
            yield random.randrange(SIZE)


KINDS = {
    "in order": lambda: {"batch_size": 4},
    "shuffled": lambda: {"batch_size": 4, "shuffle": True},
    "shuffled by a generator of its own": lambda: {
        "batch_size": 4, "shuffle": True, "generator": torch.Generator().manual_seed(3),
    },
    "a batch less": lambda: {"batch_size": 4, "shuffle": True, "drop_last": True},
    "one by one": lambda: {"batch_size": None, "shuffle": True},
    "a batch sampler": lambda: {"batch_sampler": BatchSampler(RandomSampler(range(SIZE)), 5, drop_last=False)},
    "weighted": lambda: {"batch_size": 4, "sampler": WeightedRandomSampler(torch.ones(SIZE).tolist(), SIZE)},
    "a sampler with numpy's generator": lambda: {
        "batch_size": 4, "sampler": Backwards(np.random.default_rng(5)),
    },
    "a sampler that draws globally": lambda: {"batch_size": 4, "sampler": Backwards()},
    "a sampler that is told the epoch": lambda: {"batch_size": 4, "sampler": Epochs()},
}  # fmt: skip


def read_epoch(source, epoch, position=0, *, begins_at=11):
    """The epoch's batches, with generators as they were at its beginning; and a draw after each, as a model makes."""
    seed_all(begins_at)
    return [(batch, torch.rand(())) for batch in source.batches(epoch, 0, position)]


def are_same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) and torch.equal(drawn, also)
        for (a, drawn), (b, also) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_goes_on_after_any_batch_as_if_it_had_never_been_left(kind, workers):
    def fresh():
        return source_of(DataLoader(Noisy(), num_workers=workers, **KINDS[kind]()), seed=7)

    whole = fresh()
    assert isinstance(whole, KeyedLoader)
    assert not whole.why_approximate
    read_epoch(whole, 0)
    generators, states = Generators(), []
    seed_all(11)
    batches = []
    for batch in whole.batches(1, 0, 0):
        batches.append((batch, torch.rand(())))
        states.append((whole.state_dict(), generators.state_dict()))
    assert len(batches) >= 4
    for position in (1, 3, len(batches)):
        resumed = fresh()
        state, drawn = states[position - 1]
        resumed.load_state_dict(state)
        rest = resumed.batches(1, 0, position)
        generators.load_state_dict(drawn)
        assert are_same([(batch, torch.rand(())) for batch in rest], batches[position:])


def test_epochs_differ_and_each_has_every_sample_once():
    source = source_of(DataLoader(Noisy(), batch_size=4, shuffle=True), seed=7)
    orders = [
        torch.cat([batch[:, 0] for batch, _ in read_epoch(source, epoch)]).tolist() for epoch in (0, 1, 0)
    ]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(SIZE))
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]


def test_another_seed_is_another_order():
    orders = []
    for seed in (7, 8):
        source = source_of(DataLoader(Noisy(), batch_size=SIZE, shuffle=True), seed=seed)
        orders.append(next(source.batches(0, 0, 0))[:, 0].tolist())
    assert orders[0] != orders[1]


def test_nothing_is_read_to_skip():
    source = source_of(DataLoader(Noisy(), batch_size=4, shuffle=True), seed=7)
    Noisy.reads = 0
    assert len(list(source.batches(0, 0, 4))) == 2
    assert Noisy.reads == SIZE - 16


def test_an_endless_sampler_is_not_listed():
    source = source_of(DataLoader(Noisy(), batch_size=4, sampler=Endless()), seed=7)
    batches = source.batches(0, 0, 3)
    assert len([next(batches) for _ in range(200)]) == 200


def test_taking_the_loader_apart_draws_nothing_from_the_global_generators():
    source = source_of(DataLoader(list(range(SIZE)), batch_size=4, shuffle=True), seed=7)
    seed_all(1)
    before = (torch.rand(()), np.random.rand(), random.random())
    seed_all(1)
    list(source.batches(0, 0, 0))
    assert (torch.rand(()), np.random.rand(), random.random()) == before


class Stream(IterableDataset):
    def __iter__(self):
        for number in range(SIZE):
            yield torch.tensor([number, torch.rand(())])


class Resumable(Stream):
    """A stream with a state_dict, as streaming libraries have it."""

    def __init__(self):
        self.given = 0

    def __iter__(self):
        while self.given < SIZE:
            self.given += 1
            yield torch.tensor([self.given, 0.0])
        self.given = 0

    def state_dict(self):
        return {"given": self.given}

    def load_state_dict(self, state):
        self.given = state["given"]


def test_a_stream_without_a_position_is_read_again_and_called_approximate():
    def fresh():
        return source_of(DataLoader(Stream(), batch_size=4), seed=7)

    source = fresh()
    assert isinstance(source, ReplayedSource)
    assert "has no position" in source.why_approximate
    whole = read_epoch(source, 2)
    seed_all(11)
    rest = list(fresh().batches(2, 0, 2))
    assert all(torch.equal(one, other) for one, (other, _) in zip(rest, whole[2:], strict=True))


def test_a_stream_with_a_state_of_its_own_is_asked_for_it():
    source = source_of(DataLoader(Resumable(), batch_size=None), seed=7)
    assert isinstance(source, StatefulSource)
    batches = source.batches(0, 0, 0)
    first = [next(batches)[0].item() for _ in range(9)]
    resumed = source_of(DataLoader(Resumable(), batch_size=None), seed=7)
    resumed.load_state_dict(source.state_dict())
    rest = [batch[0].item() for batch in resumed.batches(0, 0, 9)]
    assert first + rest == list(range(1, SIZE + 1))


def test_a_range_is_indexed():
    source = source_of(range(100), seed=7)
    assert isinstance(source, SequenceSource)
    assert list(source.batches(0, 0, 97)) == [97, 98, 99]
