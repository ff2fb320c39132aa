"""Each part loads by itself, as torch does; afterwards names, shapes, dtypes and values are those of the file."""

import dataclasses

import pytest
import torch
from torch import nn

from heimdall.engine.errors import Crashed, Refused
from heimdall.engine.restore import restore
from tests.engine.attempts import Stop, attempt, config_of, resumed_from, spec_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("refused")


@pytest.fixture(scope="module")
def staged(folder):
    return attempt(spec_of(folder, config_of(epochs=2)), Stop(after_step=3)).last_staged


def parts_of(model: nn.Module) -> dict:
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def state_of(model: nn.Module) -> dict:
    return {name: part.state_dict() for name, part in parts_of(model).items()}


def refusal(model: nn.Module, loaded: dict) -> str:
    with pytest.raises(Refused) as caught:
        restore({"model": model, "optimizer": torch.optim.Adam(model.parameters())}, loaded)
    assert caught.value.code == "does_not_fit"
    return str(caught.value)


def test_another_shape():
    text = refusal(nn.Linear(4, 3), state_of(nn.Linear(4, 2)))
    assert "its part model does not fit the recipe" in text
    assert "size mismatch for weight" in text


def test_another_dtype():
    loaded = state_of(nn.Linear(4, 2))
    loaded["model"] = {name: tensor.half() for name, tensor in loaded["model"].items()}
    assert "model/weight is float16 (2, 4) in it, and float32 (2, 4) after loading" in refusal(
        nn.Linear(4, 2), loaded
    )


def test_a_missing_tensor():
    loaded = state_of(nn.Linear(4, 2))
    del loaded["model"]["bias"]
    assert 'Missing key(s) in state_dict: "bias"' in refusal(nn.Linear(4, 2), loaded)


def test_a_tensor_too_many():
    text = refusal(nn.Linear(4, 2, bias=False), state_of(nn.Linear(4, 2)))
    assert 'Unexpected key(s) in state_dict: "bias"' in text


def test_a_part_too_many():
    assert "no part scaler" in refusal(nn.Linear(4, 2), state_of(nn.Linear(4, 2)) | {"scaler": {}})


class Notes(dict):
    """A part that holds what it was given."""

    def state_dict(self):
        return dict(self)

    def load_state_dict(self, state):
        self.clear()
        self.update(state)


def test_a_part_too_few_unless_it_has_nothing_to_lose():
    model = nn.Linear(4, 2)
    parts = {"model": model, "optimizer": torch.optim.Adam(model.parameters())}
    loaded = state_of(nn.Linear(4, 2))
    restore(parts | {"recipe_notes": Notes()}, loaded)
    assert torch.equal(model.weight, loaded["model"]["weight"])
    with pytest.raises(Refused, match="it has no part recipe_notes"):
        restore(parts | {"recipe_notes": Notes(seen=3)}, loaded)


def test_an_optimizer_that_casts_silently():
    """What torch rounded is put back; what another optimizer makes of its state is refused."""
    loaded = state_of(nn.Linear(4, 2))
    averages = loaded["optimizer"]["state"][0]
    averages["exp_avg"] = averages["exp_avg"].double()
    model = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters())
    restore({"model": model, "optimizer": optimizer}, loaded)
    assert optimizer.state[model.weight]["exp_avg"].dtype is torch.float64
    with pytest.raises(Refused, match=r"optimizer/state/\d/exp_avg is not what it was after loading"):
        restore({"model": model, "optimizer": Rounding(model.parameters())}, loaded)


class Rounding(torch.optim.Adam):
    def __setstate__(self, state):
        super().__setstate__(state)
        for kept in self.state.values():
            kept["exp_avg"].zero_()


def test_nan_is_equal_to_itself():
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    loaded = state_of(model)
    other = nn.Linear(4, 2)
    restore({"model": other, "optimizer": torch.optim.Adam(other.parameters())}, loaded)
    assert torch.isnan(other.weight[0, 0])


@pytest.mark.parametrize("wrong", [{"step": 4}, {"epoch": 1}, {"digest": "0" * 64}])
def test_another_state_than_expected(wrong, folder, staged):
    spec = spec_of(folder / "expected", config_of(epochs=2), **resumed_from(staged))
    with pytest.raises(Refused) as caught:
        attempt(dataclasses.replace(spec, expected=spec.expected | wrong))
    assert caught.value.code == "bad_checkpoint"


def test_a_damaged_file(folder, staged):
    damaged = folder / "damaged.safetensors"
    data = bytearray((folder / staged.path).read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    spec = spec_of(folder / "damaged", config_of(epochs=2), checkpoint=str(damaged))
    with pytest.raises(Refused, match="damaged"):
        attempt(spec)


def test_a_file_that_cannot_be_read_is_not_called_bad(folder):
    with pytest.raises(Crashed):
        attempt(spec_of(folder / "x", config_of(), checkpoint=str(folder / "nowhere.safetensors")))


def test_another_config_with_other_parts(folder, staged):
    spec = spec_of(folder / "other", config_of(epochs=2, ema_decay=0.5), **resumed_from(staged))
    with pytest.raises(Refused, match="it has no part ema"):
        attempt(spec)


def test_what_was_loaded_is_memory_of_its_own():
    model, loaded = nn.Linear(4, 2), state_of(nn.Linear(4, 2))
    parts = {"model": model, "optimizer": torch.optim.Adam(model.parameters())}
    restore(parts, loaded)
    with torch.no_grad():
        parts["optimizer"].state_dict()["state"][0]["exp_avg"].fill_(7)
    assert not (loaded["optimizer"]["state"][0]["exp_avg"] == 7).any()
