"""The promise: nobody can tell from the result that a training was stopped and resumed."""

import itertools

import pytest
import torch

from tests.engine.journeys import JOURNEYS, Travelled, differences, travel


@pytest.fixture(scope="module")
def travelled(tmp_path_factory) -> dict[str, Travelled]:
    return travel(JOURNEYS, tmp_path_factory.mktemp("journeys"))


@pytest.mark.parametrize("name", JOURNEYS)
def test_weights_optimizer_generators_order_and_metrics_are_equal(travelled, name):
    assert differences(travelled[name]) == []


@pytest.mark.parametrize("name", JOURNEYS)
def test_no_step_was_made_twice_or_left_out(travelled, name):
    attempts, alone = travelled[name].attempts, travelled[name].undisturbed
    steps = [row["step"] for told in attempts for row in told.rows]
    assert steps == list(range(1, alone.last_staged.step + 1))
    for before, after in itertools.pairwise(attempts):
        assert after.of("started")[0].step == before.last_staged.step


@pytest.mark.parametrize("name", JOURNEYS)
def test_each_stop_came_where_it_was_asked_for(travelled, name):
    for stop, told in zip(JOURNEYS[name].stops, travelled[name].attempts, strict=False):
        staged = told.last_staged
        assert told.end == "stopped"
        assert "pause" in staged.kinds
        if stop.at_epoch:
            assert staged.epoch == stop.at_epoch == told.of("epoch")[-1].epoch
        elif stop.in_validation:
            assert (staged.epoch, staged.step) == (stop.in_validation - 1, stop.in_validation * 3)
            assert told.of("phase")[-1].phase == "validating"
        else:
            assert staged.step == max(stop.after_step, 0)
    assert travelled[name].attempts[-1].end == "finished"


def test_the_scaler_did_overflow(travelled):
    assert travelled["fp16"].undisturbed.of("epoch")[-1].values["steps_skipped"] >= 2


def test_checkpoints_by_the_minute_were_made_within_epochs(travelled):
    staged = travelled["checkpoints by the minute"].attempts[0].of("staged")
    assert {each.step for each in staged if each.kinds == ("periodic",)} - {3, 6, 9, 12}


def test_best_epoch_and_best_loss_are_carried_over(travelled):
    last = travelled["paused at epochs 5, 12 and 20 of 30"].attempts[-1].of("epoch")[-1]
    first = travelled["paused at epochs 5, 12 and 20 of 30"].attempts[0].of("epoch")[0]
    assert (last.epoch, last.best_epoch) == (30, 1)
    assert last.best_val_loss == first.values["val_loss"]


def test_the_learning_rate_goes_on_where_it_was(travelled):
    paused = travelled["paused at epoch 10 of 20"]
    rates = [row["learning_rate"] for told in paused.attempts for row in told.rows]
    assert rates == [row["learning_rate"] for row in paused.undisturbed.rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 100 * rates[-1]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_on_a_gpu_too(name, tmp_path):
    found = travel({name: JOURNEYS[name]}, tmp_path, device="cuda")
    assert differences(found[name]) == []
    assert found[name].undisturbed.of("started")[0].environment["device"] == "cuda"
