"""Modules and optimizers load by themselves: what torch's own loading takes is resumed, to the bit."""

import pytest
import torch
from torch import nn
from torch.ao.quantization import MovingAverageMinMaxObserver, PerChannelMinMaxObserver
from torch.optim import SGD, AdamW, Muon, Optimizer

from heimdall.engine.errors import Refused
from tests.engine.attempts import resumed_from
from tests.engine.test_whatever_a_recipe_holds_is_resumed_exactly import STOP, Plain, train


class KeyedSGD(SGD):
    """Keeps a value of its own beside those of the weights."""

    def step(self, closure=None):
        kept = self.state["schedule"]
        kept["calls"] = kept.get("calls", torch.zeros(())) + 1
        for group in self.param_groups:
            group["lr"] = 0.1 / float(kept["calls"])
        return super().step(closure)


class NotOfAWeight(Plain):
    def optimizer(self, model):
        return KeyedSGD(model.parameters(), 0.1, momentum=0.9)


class MuonAndAdamW(Optimizer):
    """An optimizer that holds two others."""

    def __init__(self, weights):
        weights = list(weights)
        super().__init__(weights, {"lr": 1e-2})
        self.inner = {
            "muon": Muon([weight for weight in weights if weight.ndim == 2], 1e-2),
            "adamw": AdamW([weight for weight in weights if weight.ndim != 2], 1e-2),
        }

    def step(self, closure=None):
        for inner in self.inner.values():
            inner.step(closure)

    def state_dict(self):
        return {name: inner.state_dict() for name, inner in self.inner.items()}

    def load_state_dict(self, state):
        for name, inner in self.inner.items():
            inner.load_state_dict(state[name])


class Holding(Plain):
    def optimizer(self, model):
        return MuonAndAdamW(model.parameters())


class Exact(Optimizer):
    """Sums in float32, deep inside its state, beside weights in bfloat16."""

    def __init__(self, weights):
        super().__init__(weights, {"lr": 1e-2})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                sums = self.state[weight].setdefault("sums", {"of": [torch.zeros(weight.shape)]})["of"]
                sums[0] += weight.grad.float()
                weight -= (group["lr"] * sums[0]).to(weight.dtype)


class Nested(Plain):
    def model(self):
        return super().model().bfloat16()

    def optimizer(self, model):
        return Exact(model.parameters())


class Growing(Plain):
    """A buffer in the state that grows, and one that is made when it is first needed."""

    def model(self):
        return nn.Sequential(Bank(), *super().model())


class Bank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.empty(0))
        self.register_buffer("first", None)

    def forward(self, inputs):
        if self.training:
            self.seen = torch.cat([self.seen, inputs.detach().mean((1, 2, 3))])
            self.first = inputs.detach().mean() if self.first is None else self.first
        return inputs * (1 + self.seen.mean() + self.first)


class Extra(Plain):
    def model(self):
        return nn.Sequential(Counter(), *super().model())


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls, self.means = 0, []

    def forward(self, inputs):
        if self.training:
            self.calls += 1
            self.means.append(inputs.mean().detach())
        return inputs * (1 + 0.01 * self.calls)

    def get_extra_state(self):
        return {"calls": self.calls, "means": tuple(self.means)}

    def set_extra_state(self, state):
        self.calls, self.means = state["calls"], list(state["means"])


class Observing(Plain):
    """Observers of quantization size their buffers at the first batch."""

    def model(self):
        return nn.Sequential(Observed(), *super().model())


class Observed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.whole = MovingAverageMinMaxObserver()
        self.channels = PerChannelMinMaxObserver(ch_axis=1)

    def forward(self, inputs):
        if self.training:
            self.whole(inputs), self.channels(inputs)
        return inputs / (1 + self.channels.max_val.mean() - self.whole.min_val)


CASES = {
    "a key that is no weight": NotOfAWeight,
    "an optimizer that holds two": Holding,
    "float32 nested beside bfloat16": Nested,
    "buffers that grow": Growing,
    "extra state": Extra,
    "observers": Observing,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fields", [{}, {"ema_decay": 0.9}], ids=["alone", "averaged"])
def test_a_resumed_training_is_the_same(case, fields, tmp_path):
    fields = fields | {"deterministic": case != "observers"}
    whole = train(CASES[case], tmp_path / "whole", **fields)
    paused = train(CASES[case], tmp_path / "paused", STOP, **fields)
    rest = train(CASES[case], tmp_path / "rest", resumed=resumed_from(paused.last_staged), **fields)
    assert paused.end == "stopped"
    assert paused.rows + rest.rows == whole.rows
    assert rest.last_staged.digest == whole.last_staged.digest


class Adding(Plain):
    """Unfreezes its last layer by a group of its own, as a callback of other frameworks does."""

    def optimizer(self, model):
        self.steps = 0
        self.made = AdamW(model[0].parameters(), 1e-2)
        return self.made

    def loss(self, model, batch):
        self.steps += model.training
        if self.steps == 3 and len(self.made.param_groups) == 1:
            self.made.add_param_group({"params": list(model[-1].parameters())})
        return super().loss(model, batch)


def test_a_group_of_weights_that_is_added_later_is_refused_at_its_step(tmp_path):
    with pytest.raises(Refused, match="At step 3 the optimizer had 2 groups of weights") as refused:
        train(Adding, tmp_path)
    assert refused.value.code == "cannot_resume"


class Shaped(SGD):
    """An optimizer that makes its groups anew from what it loads."""

    def load_state_dict(self, state):
        for group in state["param_groups"][len(self.param_groups) :]:
            self.add_param_group({**group, "params": self.others})
        super().load_state_dict(state)


class AddingWell(Adding):
    def optimizer(self, model):
        super().optimizer(model)
        self.made = Shaped(model[0].parameters(), 0.1, momentum=0.9)
        self.made.others = list(model[-1].parameters())
        return self.made


def test_an_optimizer_that_loads_more_groups_may_have_them_and_clipping_covers_them(tmp_path):
    whole = train(AddingWell, tmp_path / "whole", max_grad_norm=0.01)
    paused = train(AddingWell, tmp_path / "paused", STOP, max_grad_norm=0.01)

    class Rest(AddingWell):
        def loss(self, model, batch):
            return Plain.loss(self, model, batch)

    rest = train(Rest, tmp_path / "rest", resumed=resumed_from(paused.last_staged), max_grad_norm=0.01)
    assert paused.rows + rest.rows == whole.rows
    assert rest.last_staged.digest == whole.last_staged.digest
