"""Changed data is refused; what else changed is said."""

import importlib

import pytest
import torch

from heimdall import codec
from heimdall.engine import environment
from heimdall.engine.errors import Refused
from tests.engine.attempts import Stop, attempt, config_of, resumed_from, spec_of


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return attempt(spec_of(tmp_path_factory.mktemp("first"), config_of(epochs=2)), Stop(after_step=3))


def pinned(first, **changes):
    return first.of("started")[0].environment | changes


def test_changed_data_is_refused(tmp_path, first):
    spec = spec_of(
        tmp_path, config_of(epochs=2, shift=0.5), pinned=pinned(first), **resumed_from(first.last_staged)
    )
    with pytest.raises(Refused, match="The data has changed") as caught:
        attempt(spec)
    assert caught.value.code == "data_changed"


def test_nothing_changed_is_exact(tmp_path, first):
    told = attempt(
        spec_of(tmp_path, config_of(epochs=2), pinned=pinned(first), **resumed_from(first.last_staged))
    )
    assert told.of("started")[0].approximate == []
    assert told.of("started")[0].environment == pinned(first)


def test_a_compiled_model_is_called_approximate(first):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert not environment.is_compiled(model)
    model[0].compile(backend="eager")
    assert environment.is_compiled(model)
    assert environment.is_compiled(torch.compile(torch.nn.Linear(2, 2), backend="eager"))
    (found,) = environment.why_approximate(pinned(first, compiled=True), pinned(first, compiled=True))
    assert found.startswith("the model is compiled")


def test_the_number_of_threads_is_kept(tmp_path, first):
    spec = spec_of(tmp_path, config_of(epochs=1), pinned=pinned(first, threads=2), threads=2)
    assert attempt(spec).of("started")[0].environment["threads"] == 2
    again = attempt(spec_of(tmp_path / "again", config_of(epochs=1), threads=1))
    assert again.of("started")[0].environment["threads"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "cuda"}, "the device was cuda and is now cpu"),
        ({"device_name": "abacus"}, "the processor was abacus and is now"),
        ({"torch": "1.0"}, "torch was 1.0 and is now"),
        ({"threads": 64}, "the number of threads was 64 and is now 1"),
        ({"world_size": 2}, "the number of devices was 2 and is now 1"),
        ({"recipe_digest": "x"}, "the source of the recipe has changed"),
    ],
)
def test_other_changes_make_it_approximate(change, reason, first):
    now = pinned(first)
    (found,) = environment.why_approximate(now, now | change)
    assert found.startswith(reason)


def test_without_determinism_it_is_approximate(first):
    now = pinned(first, deterministic=False)
    assert environment.why_approximate(now, now) == ["deterministic algorithms are turned off"]
    assert environment.why_approximate(now, {}) == []


def test_the_digest_of_the_source_follows_the_source(tmp_path, monkeypatch):
    package = tmp_path / "some_recipe"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("some_recipe")
    before = environment.digest_of_source(module)
    assert environment.digest_of_source(module) == before
    (package / "recipe.py").write_text("x = 1\n")
    assert environment.digest_of_source(module) != before


def test_a_checkpoint_says_where_it_comes_from(first):
    about = codec.read_about(first.last_staged.path)
    assert (about["step"], about["epoch"], about["kinds"]) == (3, 0, ["pause"])
    assert about["config"]["epochs"] == 2
    assert about["environment"] == pinned(first)
    assert about["recipe"] == "tests.engine.tiny"
