"""Carrying over: all of a training or its weights alone. What the new config asks for is what is done, or refused."""

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from heimdall import codec
from heimdall.engine.errors import Refused
from heimdall.engine.recipe_job import load_recipe
from tests.engine.attempts import attempt, config_of, resumed_from, spec_of
from tests.engine.stopping import Stop, StoppingJob
from tests.engine.tiny.recipe import Recipe

STEPS = 3  # in an epoch
BASE = {
    "samples": 24,
    "batch_size": 8,
    "validation_samples": 8,
    "lr_scheduler": "constant",
    "learning_rate": 0.01,
}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A training of two epochs, and its last checkpoint."""
    folder = tmp_path_factory.mktemp("parent")
    return attempt(spec_of(folder, config_of(**BASE, epochs=2))).last_staged


def begun(folder, staged, *, carry: str, **changes) -> StoppingJob:
    """A training that has taken the state over and made no step yet."""
    where = resumed_from(staged)
    if carry == "weights":
        where["expected"] |= {"step": 0, "epoch": 0}
    spec = spec_of(folder, config_of(**(BASE | {"epochs": 4} | changes)), carry=carry, **where)
    work = StoppingJob(spec, Stop())
    work.start(*load_recipe(spec))
    return work


def state(staged) -> dict:
    return codec.load(staged.path)[0]


def same(one, other) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_more_epochs_at_a_constant_rate_are_bit_identical_to_a_longer_training(parent, tmp_path):
    longer = attempt(spec_of(tmp_path / "longer", config_of(**BASE, epochs=4)))
    work = begun(tmp_path / "extended", parent, carry="training")
    work.train()
    assert work.told.rows == longer.rows[2 * STEPS :]
    assert work.told.last_staged.digest == longer.last_staged.digest


def test_a_changed_rate_and_decay_are_what_the_first_step_uses(parent, tmp_path):
    work = begun(tmp_path, parent, carry="training", learning_rate=0.003, weight_decay=0.5)
    assert same(work._training.loop.model.state_dict(), state(parent)["model"])
    group = work._training.parts["optimizer"].param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.003, 0.5)
    moments = work._training.parts["optimizer"].state_dict()["state"]
    assert torch.equal(moments[0]["exp_avg"], state(parent)["optimizer"]["state"][0]["exp_avg"])
    assert work.told.of("started")[0].learning_rate == 0.003
    work.train()
    first = work.told.rows[0]
    assert (first["step"], first["epoch"], first["learning_rate"]) == (2 * STEPS + 1, 3, 0.003)
    assert state(work.told.last_staged)["optimizer"]["param_groups"][0]["weight_decay"] == 0.5


def test_the_effective_rate_is_where_the_new_schedule_is_at_that_step(parent, tmp_path):
    work = begun(tmp_path, parent, carry="training", lr_scheduler="cosine", learning_rate=0.02)
    assert work.told.of("started")[0].learning_rate == pytest.approx(0.01)  # half of the way


def test_weights_alone_begin_at_step_0_with_all_else_new(parent, tmp_path):
    fresh = StoppingJob(spec_of(tmp_path / "fresh", config_of(**BASE, epochs=4, seed=5)), Stop())
    fresh.start(*load_recipe(fresh._spec))
    work = begun(
        tmp_path / "fork", parent, carry="weights", seed=5, optimizer="sgd", batch_size=4, ema_decay=0.9
    )
    training = work._training
    assert same(training.loop.model.state_dict(), state(parent)["model"])
    assert same(training.parts["ema"].model.state_dict(), state(parent)["model"])
    assert not training.parts["optimizer"].state_dict()["state"]
    assert vars(training.loop.progress) == vars(fresh._training.loop.progress)
    own, other = training.parts["rng"].state_dict(), fresh._training.parts["rng"].state_dict()
    assert torch.equal(own["torch"], other["torch"])
    work.train()
    assert (work.told.rows[0]["step"], work.told.end) == (1, "finished")


def test_what_does_not_fit_is_refused_without_calling_the_file_bad(parent, tmp_path):
    with pytest.raises(Refused, match="it has no part ema") as refused:
        begun(tmp_path, parent, carry="training", ema_decay=0.9)
    assert refused.value.code == "does_not_fit"


def test_a_schedule_of_the_recipes_own_is_never_overruled_silently(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Recipe,
        "scheduler",
        lambda self, optimizer, plan: OneCycleLR(optimizer, 0.1, total_steps=plan.total_steps + 1),
    )
    staged = attempt(spec_of(tmp_path / "own", config_of(**BASE, epochs=2))).last_staged
    for changes, named in (
        ({"epochs": 3, "learning_rate": 0.5}, "learning_rate would be ignored"),
        ({"epochs": 3}, "epochs would be ignored"),
    ):
        with pytest.raises(Refused, match=named) as refused:
            begun(tmp_path / named[:5], staged, carry="training", **changes)
        assert refused.value.code == "does_not_fit"
    assert (
        begun(tmp_path / "weights", staged, carry="weights", epochs=3)._training.loop.progress.steps_completed
        == 0
    )
