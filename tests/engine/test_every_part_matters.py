"""A part that is left out of the checkpoint is noticed: the rest of the training is another one."""

import copy
from typing import Any

import pytest

from heimdall import codec
from heimdall.engine.errors import Refused
from heimdall.engine.recipe_job import load_recipe
from heimdall.engine.restore import restore
from heimdall.engine.snapshot import state_of
from tests.engine.attempts import Stop, Told, attempt, config_of, resumed_from, spec_of
from tests.engine.journeys import FP16
from tests.engine.sameness import difference
from tests.engine.stopping import StoppingJob

# Every epoch is worse than the first one, and the stop is in the middle of the third.
CONFIG = FP16 | {"epochs": 5, "worsens": True, "early_stop_patience": 4}
STOP = Stop(after_step=7)
PARTS = [
    "model",
    "optimizer",
    "scheduler",
    "scaler",
    "ema",
    "modules",
    "recipe_seen",
    "progress",
    "position",
    "totals",
    "best",
    "early_stopping",
    "rng",
]
MATTERING = [part for part in PARTS if part != "modules"]  # which is empty here
GENERATORS = ["python", "numpy", "torch"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def paused(folder) -> Told:
    return attempt(spec_of(folder, config_of(**CONFIG)), STOP)


@pytest.fixture(scope="module")
def rest(folder, paused) -> Told:
    return attempt(spec_of(folder / "rest", config_of(**CONFIG), **resumed_from(paused.last_staged)))


@pytest.mark.parametrize("part", MATTERING)
def test_a_training_without_it_is_another_one(part, folder, paused, rest):
    without = go_on_without(part, None, folder / part, paused)
    assert differs(without, rest)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_training_without_this_generator_is_another_one(generator, folder, paused, rest):
    without = go_on_without("rng", generator, folder / generator, paused)
    assert differs(without, rest)


def test_with_all_of_them_it_is_the_same(folder, paused, rest):
    assert not differs(go_on_without(None, None, folder / "none", paused), rest)


def test_these_are_all_the_parts_that_there_are(paused):
    loaded, _ = codec.load(paused.last_staged.path)
    assert list(loaded) == PARTS
    assert list(loaded["rng"]) == GENERATORS


@pytest.mark.parametrize("part", MATTERING)
def test_a_checkpoint_without_it_is_refused(part, folder, paused):
    work = built(folder / "refused", paused)
    loaded, _ = codec.load(paused.last_staged.path)
    del loaded[part]
    with pytest.raises(Refused, match=f"it has no part {part}"):
        restore(work._training.parts, loaded)


def built(folder, paused) -> StoppingJob:
    work = StoppingJob(spec_of(folder, config_of(**CONFIG)), Stop())
    work.start(*load_recipe(work._spec))
    return work


def go_on_without(part: str | None, piece: str | None, folder: Any, paused: Told) -> Told:
    """Go on from the checkpoint, but with one part (or a piece of it) as a fresh training has it."""
    work = built(folder, paused)
    loaded, _ = codec.load(paused.last_staged.path)
    fresh = copy.deepcopy(state_of(work._training.parts))
    if piece is not None:
        loaded[part][piece] = fresh[part][piece]
    elif part is not None and part != "optimizer":
        loaded[part] = fresh[part]
    parts = {name: each for name, each in work._training.parts.items() if part != "optimizer" or name != part}
    restore(parts, {name: loaded[name] for name in parts})
    work.train()
    return work.told


def differs(told: Told, other: Told) -> bool:
    """Whether final state, epochs or steps differ."""
    one, two = (codec.load(each.last_staged.path)[0] for each in (told, other))
    return bool(
        difference(one, two)
        or repr(told.of("epoch")) != repr(other.of("epoch"))
        or repr(told.rows) != repr(other.rows)
    )
