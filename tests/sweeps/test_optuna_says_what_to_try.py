"""Suggestions come from Optuna in a process of its own, made anew from what was tried."""

import math

import pytest

from training.errors import SuggestionFailed
from training.sweeps import suggesting
from training.sweeps.plan import SweepPlan
from training.sweeps.space import read_space
from training.sweeps.suggesting import TriedCombination, importances, suggest

FIELDS = read_space(
    {
        "lr": {"log_uniform": [1e-4, 0.1]},
        "optimizer": ["adamw", "sgd"],
        "momentum": {"uniform": [0.5, 0.99], "if": {"optimizer": "sgd"}},
    }
)
NUMBERS = read_space({"x": {"uniform": [-3, 3]}, "y": {"uniform": [-3, 3]}})


def tried(params: dict, value: float | None, is_over: bool = True) -> TriedCombination:
    return TriedCombination(params, {} if value is None else {1: value}, is_over)


def test_tpe_keeps_to_the_space_and_the_same_question_has_the_same_answer():
    plan = SweepPlan(suggester="tpe", seed=4)
    history = [
        *(tried({"lr": 10 ** -(1 + number / 4), "optimizer": "adamw"}, 1.0 + number) for number in range(9)),
        tried({"lr": 0.01, "optimizer": "sgd", "momentum": 0.9}, None, is_over=False),
        tried({"lr": 0.02, "optimizer": "adamw"}, None),  # it failed
    ]
    found = suggest(plan, FIELDS, history, 3)
    assert found == suggest(plan, FIELDS, history, 3)
    for params in found:
        assert 1e-4 <= params["lr"] <= 0.1
        assert ("momentum" in params) == (params["optimizer"] == "sgd")
    assert suggest(plan, FIELDS, history[:-1], 3) != found


def test_a_grid_is_walked_through_once_and_then_nothing_is_left():
    fields = read_space({"a": [1, 2], "b": ["x", "y"]})
    plan = SweepPlan(suggester="grid")
    first = suggest(plan, fields, [], 3)
    assert first == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}]
    assert suggest(plan, fields, [tried(one, 1.0) for one in first], 3) == [{"a": 2, "b": "y"}]


def test_an_even_sequence_goes_on_where_it_was():
    plan = SweepPlan(suggester="qmc", seed=1)
    whole = suggest(plan, NUMBERS, [], 4)
    rest = suggest(plan, NUMBERS, [tried(one, 0.0) for one in whole[:2]], 2)
    assert rest == whole[2:]


def test_cmaes_is_led_by_what_was_good():
    history = [
        tried({"x": x / 2, "y": y / 2}, (x / 2 - 2) ** 2 + (y / 2 + 2) ** 2)
        for x in range(-6, 7)
        for y in range(-6, 7)
    ]
    found = suggest(SweepPlan(suggester="cmaes"), NUMBERS, history, 8)
    far = [math.dist((one["x"], one["y"]), (2, -2)) for one in found]
    assert sum(far) / len(far) < 1.5


def test_the_setting_that_matters_is_told():
    history = [tried({"x": x / 4, "y": y / 4}, (x / 4) ** 2) for x in range(-6, 7) for y in range(-3, 4)]
    found = importances(SweepPlan(), NUMBERS, history)
    assert found["x"] > 0.8
    assert importances(SweepPlan(), NUMBERS, history[:2]) == {}


def test_a_process_that_fails_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setattr(suggesting.sys, "executable", "/bin/false")
    with pytest.raises(SuggestionFailed, match="could not say what to try next"):
        suggest(SweepPlan(), NUMBERS, [], 1)
