"""What a script logs is what it was then, read late or not, and one number for each name and step."""

import pytest
import torch

from heimdall.attached.steps import Logged

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")],
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_a_tensor_that_is_changed_in_place_later_is_logged_as_it_was(device):
    logged, total = Logged(), torch.zeros((), device=device)
    weight = torch.ones((), device=device, requires_grad=True)
    for step in range(1, 4):
        total += step
        logged.add({"total": total, "weight": weight, "loss": 2 * weight})
        logged.close_step(step, 1)
        with torch.no_grad():
            weight += 1
    assert logged.take_rows() == [
        {"step": 1, "epoch": 1, "total": 1.0, "weight": 1.0, "loss": 2.0},
        {"step": 2, "epoch": 1, "total": 3.0, "weight": 2.0, "loss": 4.0},
        {"step": 3, "epoch": 1, "total": 6.0, "weight": 3.0, "loss": 6.0},
    ]
    assert logged.close_epoch() == {"train_total": 10 / 3, "train_weight": 2.0, "train_loss": 4.0}


def test_several_values_of_a_step_are_averaged_and_those_that_are_none_left_out():
    logged = Logged()
    for values in (
        {"loss": 1.0, "accuracy": None},
        {"loss": torch.tensor(2.0)},
        {"loss": None, "accuracy": True},
    ):
        logged.add(values)
    logged.close_step(1, 1)
    logged.close_step(2, 1)
    assert logged.take_rows() == [
        {"step": 1, "epoch": 1, "loss": 1.5, "accuracy": 1.0},
        {"step": 2, "epoch": 1},
    ]


@pytest.mark.parametrize(
    ("value", "why"),
    [(torch.zeros(2), "shape"), (torch.tensor(1j), "complex"), ("0.5", "str"), ([1.0], "list")],
    ids=["two", "complex", "text", "list"],
)
def test_what_is_no_number_is_refused_by_name(value, why):
    with pytest.raises(TypeError, match=rf"job\.log\(loss=.*{why}"):
        Logged().add({"loss": value})
