"""torch's state_dict keeps no requires_grad, no training flag and no attribute. What of them changed survives too."""

import pytest
import torch
from torch import nn

from heimdall.engine.assemble import assemble
from tests.engine.attempts import Stop, resumed_from
from tests.engine.test_whatever_a_recipe_holds_is_resumed_exactly import STOP, Plain, train
from tests.engine.tiny.config import Config


class Unfreezing(Plain):
    """A weight is trained from the third step on."""

    def model(self):
        self.steps = 0
        model = super().model()
        model[0].weight.requires_grad_(False)
        return model

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def loss(self, model, batch):
        self.steps += model.training
        if self.steps == 3:
            model[0].weight.requires_grad_(True)
        return super().loss(model, batch)


class Freezing(Plain):
    """Statistics stay as they are from the third step on."""

    def model(self):
        self.steps = 0
        return super().model()

    def loss(self, model, batch):
        self.steps += model.training
        if self.steps == 3:
            model[1].eval()
        return super().loss(model, batch)


class Remembering(Plain):
    def model(self):
        return nn.Sequential(Attributes(), *super().model())


class Attributes(nn.Module):
    """State in plain attributes, as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.temperature = 0, 1.0
        self.kept, self.by_name = [], {"mean": torch.zeros(()), "of": (1, 2)}
        self.generator = torch.Generator().manual_seed(1)
        self.lstm = nn.LSTM(4, 4)  # which lists its own weights in an attribute

    def forward(self, inputs):
        if self.training:
            self.calls += 1
            self.temperature *= 0.9
            self.kept.append(float(torch.rand((), generator=self.generator)))
            self.by_name["mean"] = 0.9 * self.by_name["mean"] + inputs.mean().detach()
        scale = self.temperature + self.calls + sum(self.kept) + self.by_name["mean"]
        return self.lstm(inputs.flatten(0, 2))[0].view_as(inputs) + inputs * scale


@pytest.mark.parametrize("recipe", [Unfreezing, Freezing, Remembering])
@pytest.mark.parametrize("fields", [{}, {"ema_decay": 0.9}], ids=["alone", "averaged"])
def test_a_resumed_training_is_the_same(recipe, fields, tmp_path):
    whole = train(recipe, tmp_path / "whole", **fields)
    paused = train(recipe, tmp_path / "paused", STOP, **fields)

    class Rest(recipe):
        """A new process counts its steps from the beginning: only the state may bring the change back."""

        loss = Plain.loss

    rest = train(Rest, tmp_path / "rest", resumed=resumed_from(paused.last_staged), **fields)
    assert paused.rows + rest.rows == whole.rows
    assert rest.last_staged.digest == whole.last_staged.digest


class Frozen(Plain):
    """A layer whose statistics are those it came with."""

    def model(self):
        model = super().model()
        model[1].eval()
        self.built = model
        return model


def test_a_layer_in_eval_mode_stays_there_over_epochs_and_validations(tmp_path):
    seen = []

    class Looking(Frozen):
        def loss(self, model, batch):
            seen.append((model.training, model[0].training, model[1].training))
            return super().loss(model, batch)

    train(Looking, tmp_path)
    assert set(seen) == {(True, True, False), (False, False, False)}
    assert seen.index((False, False, False)) < len(seen) - 1 - seen[::-1].index((True, True, False))


def test_a_model_that_comes_whole_in_eval_mode_is_trained_as_any_other(tmp_path):
    class Pretrained(Plain):
        def model(self):
            return super().model().eval()

    assert train(Pretrained, tmp_path / "eval").rows == train(Plain, tmp_path / "train").rows


def test_a_module_whose_own_train_keeps_it_in_eval_mode_has_its_way(tmp_path):
    class Still(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    class Overriding(Plain):
        def model(self):
            model = super().model()
            model[1] = Still(4)
            return model

    training = assemble(Overriding(Config(batch_size=4), tmp_path))
    assert not training.loop.model[1].training
    assert training.parts["modules"].state_dict() == {}


class Opaque(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.helper = Helper()

    def forward(self, inputs):
        if self.training:
            self.helper = Helper()
        return inputs


class Helper:
    pass


def test_what_no_checkpoint_keeps_is_named_at_the_resume(tmp_path):
    class Holding(Plain):
        def model(self):
            return nn.Sequential(Opaque(), *super().model())

    paused = train(Holding, tmp_path / "paused", Stop(after_step=4))
    rest = train(Holding, tmp_path / "rest", resumed=resumed_from(paused.last_staged))
    (why,) = rest.of("started")[0].approximate
    assert why == "model.0.helper (Helper) had changed while the model trained, and no checkpoint keeps it"


def test_a_model_that_changes_nothing_of_this_has_an_empty_part(tmp_path):
    training = assemble(Plain(Config(batch_size=4, ema_decay=0.9), tmp_path))
    assert training.parts["modules"].state_dict() == {}
