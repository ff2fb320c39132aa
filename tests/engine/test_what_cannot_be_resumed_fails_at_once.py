"""A training that no later attempt could go on with says so in its first second, and not after a week."""

import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import SGD

from heimdall.engine import resume_check
from heimdall.engine.assemble import assemble
from heimdall.engine.errors import Refused, sentence_of
from heimdall.engine.resume_check import ResumeCheck
from heimdall.engine.rng import Generators
from heimdall.engine.snapshot import state_of
from tests.engine.attempts import Stop, config_of, spec_of
from tests.engine.sameness import difference
from tests.engine.stopping import StoppingJob
from tests.engine.test_whatever_a_recipe_holds_is_resumed_exactly import Plain, Points
from tests.engine.tiny.config import Config


class PatientJob(StoppingJob):
    """Waits after each step until the check has ended: what it finds is there before the next step."""

    steps = 0

    def step_finished(self) -> None:
        super().step_finished()
        self.steps += 1
        if self.session._check is not None:
            assert self.session._check.wait(60)
        self.session.send_rows()


def train(recipe, folder: Path, stop: Stop | None = None, **fields) -> PatientJob:
    fields = {"epochs": 3, "batch_size": 4, "validation_split": 0.2, **fields}
    job = PatientJob(spec_of(folder, config_of(**fields)), stop or Stop())
    job.start(recipe(Config(**fields), folder), "")
    try:
        job.train()
    except Refused as error:
        error.job = job
        raise
    return job


class Kept:
    """A part that saves something, and does something with what it loads."""

    def __init__(self, value, load=lambda kept, state: None) -> None:
        self.value, self._load = value, load

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self._load(self, state)


class WithPath(Plain):
    def parts(self):
        return {"notes": Kept(Path("/data"))}


def test_a_value_that_no_checkpoint_keeps_is_named_before_the_first_step(tmp_path):
    with pytest.raises(
        Refused, match=r"recipe_notes/value: a checkpoint does not keep a pathlib\."
    ) as refused:
        train(WithPath, tmp_path)
    assert refused.value.code == "cannot_be_saved"
    assert not hasattr(refused.value, "job")  # it had not begun


class WithLatePath(Plain):
    """The value comes with the first step, as an optimizer's does."""

    def parts(self):
        self.kept = Kept(1)
        return {"notes": self.kept}

    def loss(self, model, batch):
        self.kept.value = Path("/data")
        return super().loss(model, batch)


def test_a_value_that_no_checkpoint_keeps_is_named_after_the_first_step(tmp_path):
    with pytest.raises(Refused, match="recipe_notes/value") as refused:
        train(WithLatePath, tmp_path)
    assert refused.value.job.steps == 0  # none after the first


class Forgetting(Plain):
    """It counts, and its loading forgets what it counted."""

    def parts(self):
        self.kept = Kept(0)
        return {"notes": self.kept}

    def loss(self, model, batch):
        self.kept.value += 1
        return super().loss(model, batch)


class Raising(Forgetting):
    def parts(self):
        def load(kept, state):
            raise KeyError("the_name")

        self.kept = Kept(0, load)
        return {"notes": self.kept}


class OddSGD(SGD):
    """Text in an optimizer's state, which torch's loading turns into something else."""

    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight]["how"] = "plain"
        return super().step(closure)


class WithText(Plain):
    def optimizer(self, model):
        return OddSGD(model.parameters(), 0.1)


class OtherShape(Plain):
    """It builds another model each time."""

    built = 0

    def model(self):
        type(self).built += 1
        return nn.Sequential(nn.Flatten(), nn.Linear(32, self.built), nn.Linear(self.built, 1))


@pytest.mark.parametrize(
    ("recipe", "part"),
    [
        (Forgetting, "recipe_notes/value"),
        (Raising, "part recipe_notes .*the_name"),
        (WithText, "optimizer/state/0/how"),
    ],
)
def test_what_would_not_load_is_named_after_the_first_step(recipe, part, tmp_path):
    with pytest.raises(
        Refused, match=f"could not be resumed, which was tried after its first step.*{part}"
    ) as refused:
        train(recipe, tmp_path)
    assert refused.value.code == "cannot_resume"
    assert refused.value.job.steps == 1
    assert len(refused.value.job.told.rows) == 1  # what was done is told


def test_it_is_not_tried_where_that_is_turned_off_and_then_it_trains_on(tmp_path):
    assert train(Forgetting, tmp_path, try_resume=False).told.end == "finished"


def test_a_model_that_differs_from_build_to_build_is_named(tmp_path):
    with pytest.raises(Refused, match="its part model does not fit the recipe"):
        train(OtherShape, tmp_path)


class BuiltOnce(Plain):
    built = 0

    def model(self):
        type(self).built += 1
        if type(self).built > 1:
            raise RuntimeError("the port is taken")
        return super().model()


def test_a_second_build_that_fails_says_nothing_of_the_first_one(tmp_path, capfd):
    BuiltOnce.built = 0
    assert train(BuiltOnce, tmp_path).told.end == "finished"
    assert (
        "A resume was not tried after the first step: RuntimeError: the port is taken."
        in capfd.readouterr().err
    )


def test_a_training_that_can_be_resumed_is_not_changed_by_the_check(tmp_path):
    with_check = train(Plain, tmp_path / "with", ema_decay=0.9, precision="bf16")
    without = train(Plain, tmp_path / "without", ema_decay=0.9, precision="bf16", try_resume=False)
    assert with_check.told.rows == without.told.rows
    assert with_check.told.last_staged.digest == without.told.last_staged.digest


def test_a_check_draws_from_no_generator_and_prints_nothing(tmp_path, capfd):
    class Printing(Plain):
        def model(self):
            print("building", flush=True)
            return super().model()

    generators = Generators()
    training = assemble(Printing(Config(batch_size=4), tmp_path))
    before = generators.state_dict()
    check = ResumeCheck(
        state_of(training.parts), lambda state: assemble(Printing(Config(batch_size=4), tmp_path))
    )
    assert check.wait(60)
    assert check.refusal is None
    assert not difference(generators.state_dict(), before)
    assert capfd.readouterr().out == "building\n"


def test_a_check_that_takes_too_long_is_ended(monkeypatch, capfd):
    monkeypatch.setattr(resume_check, "LONGEST_SECONDS", 0.2)
    began = time.monotonic()
    check = ResumeCheck({"n": 1}, lambda state: time.sleep(600))
    assert check.wait(30)
    assert time.monotonic() - began < 30
    assert check.refusal is None
    with pytest.raises(ChildProcessError):
        os.waitpid(check._pid, os.WNOHANG)  # it is gone
    assert "A resume was not tried" in capfd.readouterr().err


def test_a_giant_state_is_not_tried(monkeypatch):
    assert resume_check.why_not({"w": torch.zeros(4)}) == ""
    monkeypatch.setattr(resume_check, "LARGEST_STATE", 8)
    assert "GiB are the most" in resume_check.why_not({"part": [{"w": torch.zeros(4)}]})


class OneLeft(Plain):
    """Nine samples in batches of four, and a norm that wants two."""

    def training_samples(self):
        points = Points()
        points.inputs = points.inputs[:9]
        return points

    def model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(32, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def loss(self, model, batch):
        inputs, targets = batch
        return mse_loss(model(inputs).squeeze(-1), targets)


@pytest.mark.parametrize("fields", [{}, {"num_workers": 1}])
def test_a_last_batch_of_one_with_batch_normalization_is_named_after_the_first_step(fields, tmp_path):
    with pytest.raises(Refused, match=r"With batch_size=4 the last batch .*drop_last=true") as refused:
        train(OneLeft, tmp_path, validation_split=0.0, **fields)
    assert refused.value.job.steps == 1


def test_without_the_check_torchs_own_error_names_the_field(tmp_path):
    with pytest.raises(ValueError, match="Expected more than 1 value") as raised:
        train(OneLeft, tmp_path, validation_split=0.0, try_resume=False)
    assert "drop_last=true leaves that batch out" in sentence_of(
        raised.value, "recipe_error", {"batch_size": 4}
    )


def test_with_drop_last_it_trains(tmp_path):
    told = train(OneLeft, tmp_path, validation_split=0.0, drop_last=True).told
    assert (told.end, len(told.rows)) == ("finished", 6)


class OneLeftInPictures(Plain):
    """A picture has many values a channel: one sample is enough."""

    def training_samples(self):
        points = Points()
        points.inputs = points.inputs[:9]
        return points


def test_a_last_batch_of_one_is_fine_where_the_norm_has_enough_values(tmp_path):
    assert train(OneLeftInPictures, tmp_path, validation_split=0.0).told.end == "finished"
