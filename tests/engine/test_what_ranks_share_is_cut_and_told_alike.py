"""Shares of a batch, the page of memory that ranks have in common, and states on their way between them."""

from collections import OrderedDict

import pytest
import torch

from heimdall.engine.data import Key, Shares
from heimdall.engine.packing import packed, unpacked
from heimdall.engine.sharded import _rows_of
from heimdall.recipes.base import Evaluation
from heimdall.recipes.config import TrainingConfig
from heimdall.recipes.demand import DeviceDemand, device_demand
from heimdall.recipes.registry import InvalidConfig, checked
from heimdall.trainer.launch import ChildEnds, own_environment
from heimdall.trainer.protocol import Failed, TrainerSpec
from heimdall.trainer.ranks import RING, RankChannel, RankPage, make_page
from tests.engine.sameness import difference
from tests.engine.tiny.recipe import TinyEvaluation


@pytest.fixture
def page():
    return RankPage(make_page(TrainerSpec("a.recipe", {"x": 1}, "/staging", ranks=2, gpus=[None, None])))


@pytest.mark.parametrize("samples", [1, 2, 7, 12])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_every_sample_of_a_batch_is_one_ranks(samples, ranks):
    key = Key.of("training", list(range(100, 100 + samples)), list(range(samples)))
    shares = [share for rank in range(ranks) for share in Shares(rank, 1, ranks).cut(key)]
    assert [index for share in shares if share.samples for index in share.indices] == key.indices
    assert [seed for share in shares if share.samples for seed in share.seeds] == list(key.seeds)
    assert {share.whole for share in shares} == {samples}
    for share in shares:
        assert share.indices  # one without a sample goes through others, that weigh nothing
        assert share.samples in (0, len(share.indices))


def test_logical_shares_are_the_same_whoever_carries_them():
    key = Key.of("training", list(range(11)), list(range(11)))
    alone = list(Shares(0, 4, 4).cut(key))
    assert alone == [share for first in (0, 2) for share in Shares(first, 2, 4).cut(key)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_rows_are_cut_as_torch_cuts_them(count):
    whole = torch.arange(14).reshape(7, 2)
    rows = [_rows_of(whole, rank, count) for rank in range(count)]
    assert torch.equal(torch.cat(rows), whole)
    chunks = torch.chunk(whole, count)
    assert all(torch.equal(one, other) for one, other in zip(rows, chunks, strict=False))


def test_a_state_comes_through_as_it_was():
    state = OrderedDict(
        {"a": torch.randn(3, 2), "b": {1: (True, None, 2.5)}, "c": [torch.zeros(0), b"\0x", float("inf")]}
    )
    assert difference(unpacked(packed(state)), state) == ""


def test_what_is_announced_is_for_one_step(page):
    page.announce(5, 3)
    page.announce(6, 1)
    assert [page.announced(step) for step in range(4, 8)] == [0, 3, 1, 0]
    assert page.announced(5 + RING) == 0
    page.forget_announcements()
    assert page.announced(5) == 0


def test_a_rank_finds_the_spec_and_leaves_why_it_failed(page):
    channel = RankChannel(page, 1)
    assert channel.spec.config == {"x": 1}
    assert page.failure is None
    channel.send(Failed("recipe_error", "the cause " + "x" * 50_000, "y" * 50_000))
    channel.send(Failed("recipe_error", "what came of it"))
    assert page.failure is not None
    assert page.failure.error.startswith("the cause")


def test_ends_travel_in_one_packet_and_each_rank_has_its_own():
    ends = ChildEnds(3, 4, (6, 7, 8), page=5)
    assert ChildEnds.of_files(ends.files, ranks=3) == ends
    alone = ChildEnds(3, 4, (5,))
    assert ChildEnds.of_files(alone.files, ranks=1) == alone
    last = ends.of_rank(2)
    assert (last.control, last.messages, last.log, last.page) == (-1, -1, 8, 5)


def test_a_rank_finds_the_variables_that_torchrun_sets():
    spec = TrainerSpec("a", {}, "/s", ranks=2, gpus=["GPU-a", "GPU-b"], rank_offset=2, world_size=4,
                       rendezvous="10.0.0.1:29500")  # fmt: skip
    found = own_environment(spec, 1)
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"  # in this order LOCAL_RANK counts
    wanted = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"}
    assert found.items() >= (wanted | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}).items()
    assert "RANK" not in own_environment(TrainerSpec("a", {}, "/s"))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"devices": 0}, "devices"),
        ({"devices": 65}, "devices"),
        ({"devices": True}, "devices"),
        ({"devices": "many"}, "devices"),
        ({"devices": 8, "batch_size": 4}, "batch_size"),
        ({"devices": "elastic", "batch_size": 2}, "batch_size"),
        ({"logical_ranks": 8}, "logical_ranks"),
        ({"devices": "elastic", "logical_ranks": 6}, "logical_ranks"),
        ({"devices": "elastic", "hosts": 2}, "hosts"),
        ({"devices": "elastic", "strategy": "fsdp"}, "strategy"),
        ({"devices": "elastic", "other_device_count": "approximate"}, "other_device_count"),
        ({"strategy": "fsdp"}, "strategy"),
        ({"strategy": "fsdp", "devices": 2, "precision": "fp16"}, "precision"),
        ({"strategy": "fsdp", "devices": 2, "ema_decay": 0.9}, "ema_decay"),
        ({"strategy": "fsdp", "devices": 2, "hosts": 2}, "hosts"),
    ],
)
def test_a_field_that_would_do_nothing_is_refused_and_named(fields, named):
    with pytest.raises(InvalidConfig) as caught:
        checked(TrainingConfig, fields)
    assert list(caught.value.fields) == [named]


@pytest.mark.parametrize(
    ("config", "demand"),
    [
        ({}, DeviceDemand(1, 1, 1)),
        ({"devices": 3, "hosts": 2}, DeviceDemand(3, 3, 2)),
        ({"devices": "elastic"}, DeviceDemand(1, 4, 1)),
        ({"devices": "elastic", "logical_ranks": 16}, DeviceDemand(1, 16, 1)),
    ],
)
def test_what_a_job_asks_for(config, demand):
    assert device_demand(config) == demand


def test_an_elastic_job_takes_the_largest_number_that_is_free():
    elastic = device_demand({"devices": "elastic", "logical_ranks": 8})
    assert [elastic.fitting(free) for free in range(10)] == [0, 1, 2, 2, 4, 4, 4, 4, 8, 8]
    fixed = device_demand({"devices": 3})
    assert [fixed.fitting(free) for free in range(5)] == [0, 0, 0, 3, 3]


def test_evaluations_of_shares_are_taken_together():
    whole, *parts = (Evaluation(None) for _ in range(4))  # type: ignore[arg-type]
    losses = [torch.tensor(loss) for loss in (0.1, 0.7, 0.4)]
    for part, loss, samples in zip(parts, losses, (3, 2, 5), strict=True):
        whole.add({"loss": loss}, samples)
        part.add({"loss": loss}, samples)
    whole_result = whole.result()
    whole.take_together([unpacked(packed(part.partial())) for part in parts])
    assert whole.result() == whole_result
    assert Evaluation(None).can_be_split  # type: ignore[arg-type]
    assert not TinyEvaluation(None).can_be_split  # type: ignore[arg-type]
