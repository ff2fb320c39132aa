"""Accumulation, clipping, schedules, averages, best and patience, each against a few lines by hand."""

import math

import pytest
import torch
from torch import nn

from heimdall.engine.data import Batch
from heimdall.engine.ema import WeightAverage
from heimdall.engine.loop import Step
from heimdall.engine.progress import Best, EarlyStopping, EpochTotals, Progress
from heimdall.recipes.base import Evaluation, Plan
from heimdall.recipes.schedule import Schedule


def squares(model, batch):
    inputs, targets = batch
    return nn.functional.mse_loss(model(inputs), targets)


def build_step(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = Schedule(optimizer, Plan(1, 100, 0), kind="constant")
    return Step(model, optimizer, schedule, squares, progress=Progress(), totals=EpochTotals(), **options)


def linear() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(4, 1).double()


@pytest.mark.parametrize("sizes", [[5], [4, 4, 4], [4, 4], [4, 4, 1], [3, 1]])
def test_each_sample_of_a_group_weighs_the_same(sizes):
    inputs, targets = torch.randn(sum(sizes), 4).double(), torch.randn(sum(sizes), 1).double()
    one, many = linear(), linear()
    build_step(one)([Batch((inputs, targets), sum(sizes))])
    parts = zip(inputs.split(sizes), targets.split(sizes), sizes, strict=True)
    build_step(many)([Batch((x, y), size) for x, y, size in parts])
    torch.testing.assert_close(one.weight, many.weight, rtol=1e-12, atol=1e-14)


def test_the_loss_of_a_step_is_the_mean_over_its_samples():
    model = linear()
    inputs, targets = torch.randn(5, 4).double(), torch.randn(5, 1).double()
    expected = squares(model, (inputs, targets)).item()
    step = build_step(model, max_grad_norm=1.0)
    step([Batch((inputs[:4], targets[:4]), 4), Batch((inputs[4:], targets[4:]), 1)])
    (row,) = step._totals.take_rows()
    assert row["loss"] == pytest.approx(expected)
    assert step._totals.means()["train_loss"] == pytest.approx(expected)
    assert {"step", "epoch", "loss", "learning_rate", "grad_norm"} == set(row)


def test_long_gradients_are_scaled_down():
    model = linear()
    before = model.weight.clone(), model.bias.clone()
    inputs, targets = 100 * torch.ones(2, 4).double(), torch.zeros(2, 1).double()
    build_step(model, max_grad_norm=0.5)([Batch((inputs, targets), 2)])
    moved = torch.cat([(model.weight - before[0]).flatten(), (model.bias - before[1]).flatten()])
    assert moved.norm().item() == pytest.approx(0.1 * 0.5, rel=1e-4)


def test_a_step_that_the_scaler_skipped_counts_and_advances_the_schedule():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = Schedule(optimizer, Plan(1, 10, 10), kind="constant")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    progress = Progress()
    step = Step(
        model,
        optimizer,
        schedule,
        lambda model, batch: model(batch).sum() * math.inf,
        progress=progress,
        totals=EpochTotals(),
        scaler=scaler,
    )
    before = model.weight.clone()
    step([Batch(torch.ones(2, 4), 2)])
    assert torch.equal(model.weight, before)
    assert (progress.steps_completed, progress.steps_skipped) == (1, 1)
    assert scaler.get_scale() == 4.0
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


def rates(kind: str, warmup: int, total: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = Schedule(optimizer, Plan(1, total, warmup), kind=kind)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_the_warm_up_rises_to_the_learning_rate():
    assert rates("constant", 4, 6) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]


def test_the_cosine_falls_to_zero():
    expected = [2.0 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(5)]
    assert rates("cosine", 2, 6) == pytest.approx([1.0, 2.0, *expected])
    assert rates("cosine", 0, 6)[-1] == pytest.approx(0.0)


def test_the_schedule_finds_the_groups_that_a_loaded_optimizer_has():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = Schedule(optimizer, Plan(1, 4, 4), kind="constant")
    optimizer.load_state_dict(optimizer.state_dict())
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_the_average_of_the_weights():
    model = nn.Linear(2, 1, bias=False)
    average = WeightAverage(model, decay=0.5)
    expected = model.weight.detach().clone()
    for number in range(30):
        with torch.no_grad():
            model.weight += 1
        average.update()
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(average.model.weight, expected)
    assert not average.model.weight.requires_grad


def test_the_average_takes_buffers_as_they_are():
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.9)
    model(torch.randn(8, 2) + 5)
    average.update()
    assert torch.equal(average.model.running_mean, model.running_mean)
    assert torch.equal(average.model.num_batches_tracked, model.num_batches_tracked)


def test_best_is_strictly_less_and_ties_go_to_the_earliest():
    best = Best()
    losses = [3.0, math.nan, 2.0, 2.0, 2.5, math.inf, 1.0]
    assert [best.consider(epoch, loss) for epoch, loss in enumerate(losses, 1)] == [
        True, False, True, False, False, False, True,
    ]  # fmt: skip
    assert (best.epoch, best.loss) == (7, 1.0)


def test_patience_counts_epochs_without_enough_gain():
    stopping = EarlyStopping(patience=2, delta=0.5)
    reached = []
    for loss in [3.0, 2.6, 2.4, 2.3, math.nan]:
        stopping.consider(loss)
        reached.append(stopping.is_reached)
    assert reached == [False, False, False, False, True]


def test_no_patience_never_stops():
    stopping = EarlyStopping(patience=0, delta=0.0)
    for _ in range(50):
        stopping.consider(1.0)
    assert not stopping.is_reached


def test_a_mean_that_is_given_now_and_then_is_divided_by_the_samples_it_was_given_for():
    """Only each tenth step gives it, always 1.0: so it is 1.0 over the epoch, in its steps, and after a resume."""
    model = linear()
    calls = []

    def loss(model, batch):
        calls.append(batch)
        found = squares(model, batch)
        return (found, {"accuracy": torch.tensor(1.0)}) if len(calls) % 10 == 1 else found

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = Schedule(optimizer, Plan(1, 100, 0), kind="constant")
    totals = EpochTotals()
    step = Step(model, optimizer, schedule, loss, progress=Progress(), totals=totals)
    batch = Batch((torch.ones(4, 4).double(), torch.ones(4, 1).double()), 4)
    for _ in range(11):
        step([batch, batch])
    rows = totals.take_rows()
    assert [row["accuracy"] for row in rows if "accuracy" in row] == [1.0, 1.0, 1.0]
    resumed = EpochTotals()
    resumed.load_state_dict(totals.state_dict())
    assert totals.means()["train_accuracy"] == resumed.means()["train_accuracy"] == 1.0
    losses = [row["loss"] for row in rows]
    assert totals.means()["train_loss"] == pytest.approx(sum(losses) / len(losses))


def test_a_mean_of_the_validation_is_divided_by_the_samples_it_was_given_for():
    evaluation = Evaluation(None)
    evaluation.add({"loss": torch.tensor(2.0), "accuracy": torch.tensor(1.0)}, 3)
    evaluation.add({"loss": torch.tensor(6.0)}, 1)
    assert evaluation.result() == {"val_loss": 3.0, "val_accuracy": 1.0}
