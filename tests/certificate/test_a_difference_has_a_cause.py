"""A stretch that comes out otherwise says from where on, and why: chance, data, source, device, or none of these."""

from dataclasses import replace
from functools import cached_property

import pytest

from heimdall.check.rehearsal import Interrupted, Rehearsal
from heimdall.check.replaying import Point, Stretch, replay
from tests.attached.scripts import spec_of, warm, written

pytestmark = pytest.mark.processes

SCRIPT = """
import os
import torch, heimdall
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
loader = DataLoader(TensorDataset(torch.randn(20, 2)), 4, shuffle=True)
job = heimdall.attach(model=model, optimizer=optimizer)
for epoch in job.epochs(3):
    for (x,) in job.batches(loader):
        factor = FACTOR
        loss = factor * (model(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        job.log(loss=loss)
"""


@pytest.fixture(scope="module")
def launcher():
    with warm() as launcher:
        yield launcher


@pytest.fixture(scope="module")
def trained(launcher, tmp_path_factory):
    """A training of twelve steps that was stopped after the fourth, and what leads another one past its states."""

    tmp_path = tmp_path_factory.mktemp("trained")

    class Trained:
        def rehearsal(self, factor: str, code: str = "", **options) -> Rehearsal:
            spec = spec_of(tmp_path, written(tmp_path, SCRIPT.replace("FACTOR", factor)), threads=1)
            places = {"hash_at": [[8, 1]], "until_epoch": options.pop("until", 2)}
            spec = replace(spec, program=spec.program | {"code": code}, **places)
            return Rehearsal(spec, tmp_path, launcher=launcher, **options)

        @cached_property
        def stretch(self) -> Stretch:
            begun = self.rehearsal("1.0", until=0).through([4])
            rest = self.rehearsal("1.0").through([12], start=begun)
            points = [
                Point(2, 8, 1, rest.hashed[0].digest),
                Point(3, 12, 2, rest.digest, rest.checkpoint),
            ]
            rows = {
                row["step"]: {name: value for name, value in row.items() if name not in ("step", "epoch")}
                for row in rest.rows
            }
            facts = {"points": points, "rows": rows, "environment": begun.environment}
            return Stretch(begun.checkpoint, begun.step, begun.epoch, begun.digest, **facts)

    return Trained()


def test_the_same_bits_and_values_are_equal_and_a_value_that_was_recorded_otherwise_is_found(trained):
    stretch = trained.stretch
    result = replay(trained.rehearsal("1.0"), stretch)
    assert (result.outcome, result.reason, result.steps_compared) == ("equal", "", 8)
    assert result.found == [point.digest for point in stretch.points]
    rows = {**stretch.rows, 7: stretch.rows[7] | {"loss": 0.5}}
    found = replay(trained.rehearsal("1.0"), replace(stretch, rows=rows))
    assert (found.outcome, found.first_step, found.first_value, found.first_tensor) == (
        "differs",
        7,
        "loss",
        "",
    )
    assert "or what was recorded was changed" in found.reason


@pytest.mark.parametrize(
    ("factor", "code", "environment", "cause"),
    [
        (
            "1 + os.urandom(1)[0] / 1000",
            "",
            {},
            "it differs from itself: something is drawn outside of the seeds",
        ),
        ("1.0 + (epoch == 1)", "", {}, "something that the state does not hold has decided"),
        ("1.5", "other", {}, "The source is another than it was"),
        ("1.5", "", {"data_fingerprint": "a" * 64}, "The data are others than they were"),
        ("1.5", "", {"device_name": "another processor"}, "the device was another processor and is now"),
        ("1.5", "", {"threads": 7}, "the number of threads was 7 and is now 1"),
    ],
)
def test_what_comes_out_otherwise_has_a_cause_and_a_place(trained, factor, code, environment, cause):
    stretch = trained.stretch
    stretch = replace(stretch, environment=stretch.environment | environment)
    result = replay(trained.rehearsal(factor, code), stretch)
    assert (result.outcome, cause in result.reason) == ("differs", True), result.reason
    assert result.first_step in range(5, 13)
    assert result.first_value == "loss"
    assert result.first_tensor


def test_data_that_the_training_itself_refuses_are_a_difference_and_a_broken_program_is_none(trained):
    stretch = trained.stretch
    result = replay(trained.rehearsal("1 / 0"), stretch)
    assert (result.outcome, "ZeroDivisionError" in result.reason) == ("failed", True)


def test_whoever_has_something_better_to_do_is_let_go_at_once(trained):
    stretch = trained.stretch
    with pytest.raises(Interrupted):
        replay(trained.rehearsal("1.0", is_interrupted=lambda: True), stretch)
