"""Recipes are other people's code. What the interface allows them survives a pause, or is refused with a sentence."""

import multiprocessing
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import ExponentialLR

from heimdall import Evaluation, TrainingRecipe
from heimdall.engine.errors import Refused
from tests.engine.attempts import Stop, Told, config_of, resumed_from, spec_of
from tests.engine.stopping import StoppingJob
from tests.engine.tiny.config import Config

STOP = Stop(after_step=4)  # in the second of three epochs


class Points:
    def __init__(self) -> None:
        self.inputs = torch.randn(12, 2, 4, 4, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.inputs)

    def sample(self, index, seed):
        inputs = self.inputs[index]
        if seed is not None:
            inputs = inputs + 0.1 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed))
        return inputs, inputs.mean()


class Plain(TrainingRecipe):
    def training_samples(self):
        return Points()

    def model(self):
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(16, 1)
        )

    def loss(self, model, batch):
        inputs, targets = batch
        weight = next(model.parameters())
        return mse_loss(model(inputs.to(weight.dtype)).squeeze(-1).float(), targets.float())


class ChannelsLast(Plain):
    def model(self):
        return super().model().to(memory_format=torch.channels_last)


class Half(Plain):
    """NAdam keeps a product in float32 beside weights in bfloat16; loading it, torch would round it."""

    def model(self):
        return super().model().bfloat16()

    def optimizer(self, model):
        return torch.optim.NAdam(model.parameters(), 1e-2)


class TensorRate(Plain):
    """The schedule changes the rate in place; the steps that were told of keep theirs."""

    def optimizer(self, model):
        return torch.optim.Adam(model.parameters(), torch.tensor(1e-2), foreach=False)

    def scheduler(self, optimizer, plan):
        return ExponentialLR(optimizer, 0.9)


class Odd(Plain):
    """Complex, empty and 0-dim weights, tied ones, and one whose memory is transposed."""

    def model(self):
        return OddModel()


class OddModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.waves = nn.Parameter(0.1 * torch.randn(32, 4, dtype=torch.complex64))
        self.scale, self.nothing = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.empty(0))
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.first.weight = nn.Parameter(torch.randn(4, 4).t())
        self.second.weight = self.first.weight

    def forward(self, inputs):
        heard = (inputs.flatten(1).to(torch.complex64) @ self.waves).abs()
        return self.second(self.first(heard)).mean(1, keepdim=True) * self.scale + self.nothing.sum()


class Remembering(Plain):
    """A part that grows."""

    def model(self):
        self.bank = Bank()
        return super().model()

    def parts(self):
        return {"bank": self.bank}

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        if model.training:
            self.bank.kept = torch.cat([self.bank.kept, batch[1][:2].detach()])
            loss = loss + self.bank.kept.mean() * model[-1].bias.sum()
        return loss


class Bank:
    def __init__(self) -> None:
        self.kept = torch.empty(0)
        self.waves = torch.ones(2, dtype=torch.complex64)

    def state_dict(self):
        return {"kept": self.kept, "waves": self.waves * 1j, "turned": (self.waves * 1j).conj()}

    def load_state_dict(self, state):
        assert torch.equal(state["turned"], -1j * self.waves)
        self.kept = state["kept"]


class Drawing(Plain):
    """Generators of its own, of each kind."""

    def model(self):
        self.generators = {
            "torch": torch.Generator().manual_seed(1),
            "numpy": np.random.default_rng(1),
            "python": random.Random(1),
        }
        return super().model()

    def parts(self):
        return self.generators

    def loss(self, model, batch):
        inputs, targets = batch
        if model.training:
            drawn = torch.rand((), generator=self.generators["torch"])
            inputs = inputs + drawn * self.generators["numpy"].random() * self.generators["python"].random()
        return super().loss(model, (inputs, targets))


class Careless(Plain):
    """Transforms that draw from the global generators, as most libraries' do."""

    def training_samples(self):
        return CarelessPoints()


class CarelessPoints(Points):
    def sample(self, index, seed):
        inputs, target = super().sample(index, seed)
        return inputs + 0.1 * torch.randn(inputs.shape) * float(np.random.rand()) * random.random(), target


class Counting(Plain):
    """A buffer that torch keeps out of the state, and one that is made when it is first needed."""

    def model(self):
        return nn.Sequential(Counter(), *super().model())


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.register_buffer("first", None, persistent=False)
        self.register_buffer("table", torch.ones(3), persistent=False)

    def forward(self, inputs):
        if self.training:
            self.calls = self.calls + 1
            if self.first is None:
                self.first = inputs.mean().detach()
        return inputs * (1 + 0.1 * self.calls + self.first)


CASES = {
    "plain": (Plain, {}),
    "channels last": (ChannelsLast, {"ema_decay": 0.9}),
    "bfloat16 weights": (Half, {}),
    "a tensor as the rate": (TensorRate, {}),
    "odd tensors": (Odd, {}),
    "a part that grows": (Remembering, {}),
    "generators": (Drawing, {}),
    "careless": (Careless, {}),
    "careless in loader workers": (Careless, {"num_workers": 2}),
    "buffers": (Counting, {"ema_decay": 0.9}),
}


class SparseMoments(Plain):
    def model(self):
        return nn.Sequential(nn.Flatten(), Words(), nn.Linear(3, 1))

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 3, sparse=True)

    def forward(self, inputs):
        return self.table((inputs[:, 0] > 0).long())


def test_a_sparse_state_is_refused_by_name(tmp_path):
    with pytest.raises(Refused, match="optimizer/state/0/momentum_buffer is a sparse tensor"):
        train(SparseMoments, tmp_path, Stop(after_step=1), max_grad_norm=0.0, deterministic=False)


def train(recipe: type[TrainingRecipe], folder, stop: Stop | None = None, *, resumed=None, **fields) -> Told:
    fields = {"epochs": 3, "batch_size": 4, "validation_split": 0.2, **fields}
    work = StoppingJob(spec_of(folder, config_of(**fields), **(resumed or {})), stop or Stop())
    work.start(recipe(Config(**fields), folder), "")
    work.train()
    return work.told


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_training_is_the_same(case, tmp_path):
    recipe, fields = CASES[case]
    whole = train(recipe, tmp_path / "whole", **fields)
    paused = train(recipe, tmp_path / "paused", STOP, **fields)
    rest = train(recipe, tmp_path / "rest", resumed=resumed_from(paused.last_staged), **fields)
    assert paused.end == "stopped"
    assert paused.rows + rest.rows == whole.rows
    assert [*paused.of("epoch"), *rest.of("epoch")] == whole.of("epoch")
    assert rest.last_staged.digest == whole.last_staged.digest


@pytest.mark.skipif(sys.platform != "linux", reason="loader workers are forked on Linux alone")
def test_loader_workers_are_the_trainers_own_children_whatever_the_interpreter_prefers(tmp_path):
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)  # as in Python 3.14
    try:
        assert train(Plain, tmp_path, epochs=1, num_workers=1).end == "finished"
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_a_stop_in_validation_keeps_the_buffers_of_the_average(tmp_path):
    whole = train(Counting, tmp_path / "whole", ema_decay=0.9)
    paused = train(Counting, tmp_path / "paused", Stop(in_validation=2), ema_decay=0.9)
    rest = train(Counting, tmp_path / "rest", resumed=resumed_from(paused.last_staged), ema_decay=0.9)
    assert [*paused.of("epoch"), *rest.of("epoch")] == whole.of("epoch")


class Forgetful(Remembering):
    """What it is given it adds to what it has."""

    def model(self):
        model = super().model()
        self.bank = Seasoned()
        return model


class Seasoned(Bank):
    def __init__(self) -> None:
        super().__init__()
        self.names = {"built": 1}

    def state_dict(self):
        return {
            "kept": self.kept,
            "names": {name: 1 for name in self.names if name != "built" or len(self.kept) < 3},
        }

    def load_state_dict(self, state):
        self.kept = state["kept"][:1]
        self.names |= state["names"]


def test_a_part_that_keeps_something_of_its_own_is_refused(tmp_path):
    paused = train(Forgetful, tmp_path, STOP)
    with pytest.raises(Refused, match=r"recipe_bank/.* after loading") as refused:
        train(Forgetful, tmp_path, resumed=resumed_from(paused.last_staged))
    assert refused.value.code == "does_not_fit"  # the file is good: nothing is set aside
    assert "Bring the recipe back as it was" in str(refused.value)


class Wrong(Plain):
    """Gives one thing that cannot be used."""

    wrong = ""

    def parts(self):
        return {"thing": object()} if self.wrong == "part" else {}

    def scheduler(self, optimizer, plan):
        return object() if self.wrong == "schedule" else None

    def evaluation(self):
        return Silent(self) if self.wrong == "evaluation" else super().evaluation()

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        match self.wrong:
            case "number":
                return loss, {"accuracy": 0.5}
            case "values":
                return loss, {"accuracy": torch.ones(3)}
            case "name":
                return loss, {"step": loss}
            case "loss":
                return loss * torch.ones(3)
        return loss


class Silent(Evaluation):
    def result(self):
        return {"val_score": 1.0}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("part", r"the part 'thing' of parts\(\) \(object\) has no state_dict\(\)"),
        ("schedule", r"what scheduler\(\) gives \(object\) has no state_dict\(\)"),
        ("number", "the mean 'accuracy' as float: give a tensor with one value"),
        ("values", r"the mean 'accuracy' as shape \(3,\): give a tensor with one value"),
        ("name", "a mean by the name 'step', which every step has"),
        ("loss", r"the loss as shape \(3,\): give a tensor with one value"),
        ("evaluation", "gives no val_loss"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(wrong, sentence, tmp_path):
    recipe = type("Wrong", (Wrong,), {"wrong": wrong})
    with pytest.raises((TypeError, ValueError), match=sentence):
        train(recipe, tmp_path)
