"""A resume starts in the middle of an epoch without going through what came before."""

import pytest
import torch
from torch.utils.data import default_collate

from heimdall.engine.data import Data, split
from heimdall.engine.progress import Position
from heimdall.engine.recipe_job import load_recipe
from heimdall.engine.rng import Generators, mix, mix_range
from tests.engine.attempts import Stop, attempt, config_of, resumed_from, spec_of
from tests.engine.stopping import StoppingJob
from tests.engine.tiny.recipe import ACCESSES


class Numbers:
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def sample(self, index, seed):
        return index, -1 if seed is None else seed


class Together(Numbers):
    """Makes its batches itself."""

    def batch(self, indices, seeds):
        return default_collate([self.sample(index, seed) for index, seed in zip(indices, seeds, strict=True)])


def data_of(size=23, kind=Numbers, **options) -> Data:
    given = {"collate": default_collate, "batch_size": 4, "grad_accumulation": 2, "seed": 5}
    return Data(kind(size), kind(7), **(given | options))


def seen(data: Data, position: Position) -> list[list[tuple[int, int]]]:
    """(index, seed) of each sample, batch by batch."""
    return [
        list(zip(batch.data[0].tolist(), batch.data[1].tolist(), strict=True))
        for group in data.rest_of_epoch(position)
        for batch in group
    ]


def test_every_sample_comes_once_in_each_epoch_in_another_order_with_another_seed():
    data = data_of()
    first, second = (seen(data, Position(epoch, 0)) for epoch in (0, 1))
    for epoch in (first, second):
        assert sorted(index for batch in epoch for index, _ in batch) == list(range(23))
    assert [index for batch in first for index, _ in batch] != [
        index for batch in second for index, _ in batch
    ]
    seeds = {seed for epoch in (first, second) for batch in epoch for _, seed in batch}
    assert len(seeds) == 46


def test_the_seed_of_the_training_changes_both():
    assert seen(data_of(), Position()) != seen(data_of(seed=6), Position())


@pytest.mark.parametrize("batches", range(6))
def test_the_rest_of_an_epoch_is_the_end_of_the_whole(batches):
    assert seen(data_of(), Position(3, batches)) == seen(data_of(), Position(3, 0))[batches:]


def test_groups_hold_as_many_batches_as_the_config_says_and_the_last_one_what_is_left():
    data = data_of(grad_accumulation=4)
    groups = list(data.rest_of_epoch(Position()))
    assert [[batch.samples for batch in group] for group in groups] == [[4, 4, 4, 4], [4, 3]]
    assert (data.batches_per_epoch, data.steps_per_epoch) == (6, 2)


@pytest.mark.parametrize("batches", range(6))
def test_a_short_last_batch_is_left_out_where_that_is_asked_for(batches):
    data = data_of(drop_last=True)
    assert seen(data, Position(3, batches)) == seen(data_of(), Position(3, 0))[batches:5]
    assert (data.batches_per_epoch, data.steps_per_epoch, data.fewest_samples) == (5, 3, 4)
    left_out = [
        set(range(23)) - {index for batch in seen(data, Position(epoch)) for index, _ in batch}
        for epoch in (0, 1)
    ]
    assert left_out[0] != left_out[1]  # each sample has its turn
    whole = data_of(size=24, drop_last=True)
    assert (whole.batches_per_epoch, whole.fewest_samples) == (6, 4)


def test_the_last_batch_can_be_looked_at_alone():
    data = data_of()
    indices, seeds = data.last_batch()
    assert list(zip(indices.tolist(), seeds.tolist(), strict=True)) == seen(data, Position())[-1]


def test_samples_that_are_made_together_are_the_same():
    assert seen(data_of(kind=Together), Position(2, 1)) == seen(data_of(), Position(2, 1))


def test_many_samples_and_big_batches():
    data = data_of(size=10_000, batch_size=3000)
    assert [len(batch) for batch in seen(data, Position(0, 1))] == [3000, 3000, 1000]


def test_validation_is_in_order_and_without_seeds():
    batches = [batch.data for batch in data_of().validation()]
    assert torch.cat([index for index, _ in batches]).tolist() == list(range(7))
    assert {seed for _, seeds in batches for seed in seeds.tolist()} == {-1}


def test_the_data_draws_from_no_generator_of_the_training():
    generators = Generators()
    before = generators.state_dict()
    data = data_of()
    seen(data, Position())
    list(data.validation())
    after = generators.state_dict()
    assert before["python"]["words"].equal(after["python"]["words"])
    assert before["numpy"]["words"].equal(after["numpy"]["words"])
    assert before["torch"].equal(after["torch"])


def test_a_part_of_the_samples_is_set_aside():
    training, validation = split(Numbers(20), share=0.25, seed=1)
    indices = [
        [samples.sample(number, None)[0] for number in range(len(samples))]
        for samples in (training, validation)
    ]
    assert [len(each) for each in indices] == [15, 5]
    assert sorted(indices[0] + indices[1]) == list(range(20))
    assert split(Numbers(20), share=0.0, seed=1)[1] is None
    assert len(split(Numbers(2), share=0.9, seed=1)[0]) == 1
    again = split(Together(20), share=0.25, seed=1)[1]
    assert again.batch([0, 1], [None, None])[0].tolist() == indices[1][:2]


def test_seeds_are_the_same_on_every_machine():
    assert mix(1, "order", 0) == mix(1, "order", 0) != mix(1, "order", 1)
    assert mix_range(7, 2, 5) == mix_range(7, 0, 5)[2:]
    assert all(0 <= seed < 2**63 for seed in mix_range(2**63 - 1, 0, 100))


@pytest.mark.parametrize("step", [1, 50, 99])
def test_the_first_step_after_a_resume_reads_one_batch_wherever_it_is(step, tmp_path):
    config = config_of(epochs=1, samples=800, validation_samples=0, validation_split=0.0)
    paused = attempt(spec_of(tmp_path, config), Stop(after_step=step))
    spec = spec_of(tmp_path / "rest", config, **resumed_from(paused.last_staged))
    work = StoppingJob(spec, Stop(after_step=step + 1))
    work.start(*load_recipe(spec))
    ACCESSES.clear()
    work.train()
    assert work.told.last_staged.step == step + 1
    assert ACCESSES == {"training": 8}
