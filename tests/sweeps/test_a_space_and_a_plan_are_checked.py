"""What a sweep searches and how: read, written and refused, without a database."""

import pytest

from heimdall.errors import InvalidInput
from training.sweeps.plan import read_plan
from training.sweeps.space import grid_size, read_space, write_space
from training.sweeps.written import read_written, write_written

SPACE = {
    "momentum": {"uniform": [0.5, 0.99], "if": {"optimizer": "sgd"}},
    "learning_rate": {"log_uniform": [1e-4, 0.1]},
    "optimizer": {"choice": ["adamw", "sgd"]},
    "layers": {"int": [1, 4]},
}
LINES = """
# what is searched
momentum = 0.5 .. 0.99 if optimizer = sgd
learning_rate = log 1e-4 .. 0.1
optimizer = adamw, sgd
layers = 1 .. 4
"""


def test_lines_and_json_say_the_same_and_are_written_back():
    assert read_written(LINES) == SPACE
    assert read_written(write_written(SPACE)) == SPACE
    assert read_written('{"a": [1, 2]}') == {"a": [1, 2]}


def test_a_setting_stands_behind_the_one_that_it_hangs_on():
    fields = read_space(SPACE)
    names = [field.name for field in fields]
    assert names.index("optimizer") < names.index("momentum")
    assert write_space(read_space(write_space(fields))) == write_space(fields)
    momentum = fields[names.index("momentum")]
    assert momentum.counts({"optimizer": "sgd"})
    assert not momentum.counts({"optimizer": "adamw"})


@pytest.mark.parametrize(
    ("space", "field", "sentence"),
    [
        ({}, "space", "at least one setting"),
        ({"a": 3}, "space.a", "Say what it may be"),
        ({"a": {"choice": [1], "int": [1, 2]}}, "space.a", "exactly one of"),
        ({"a": {"uniform": [2, 1]}}, "space.a", "below the second"),
        ({"a": {"uniform": [0, float("inf")]}}, "space.a", "finite"),
        ({"a": {"log_uniform": [0, 1]}}, "space.a", "above 0"),
        ({"a": {"int": [0.5, 2]}}, "space.a", "two whole numbers"),
        ({"a": {"choice": []}}, "space.a", "1 to 1000 values"),
        ({"a": {"choice": [1, 1]}}, "space.a", "twice"),
        ({"a": {"choice": [[1]]}}, "space.a", "texts, finite numbers"),
        ({"a": {"int": [1, 2], "if": {"b": 1}}}, "space.a", "b, which is not searched"),
        ({"a": {"int": [1, 2], "if": {"b": 9}}, "b": [1, 2]}, "space.a", "can never be 9"),
        ({"a": {"choice": [1], "if": {"b": 1}}, "b": {"choice": [1], "if": {"a": 1}}}, "space", "circle"),
        ({f"x{number}": [1] for number in range(51)}, "space", "At most 50"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_by_field(space, field, sentence):
    with pytest.raises(InvalidInput) as refused:
        read_space(space)
    assert sentence in refused.value.fields[field][0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lr", "Line 1: write a setting"),
        ("a = 1\na = 2", "Line 2: a stands there twice"),
        ("a = x .. 2", "from a number"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(text, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        read_written(text)


def test_a_grid_has_as_many_jobs_as_fit():
    fields = read_space({"a": [1, 2, 3], "b": ["x", "y"]})
    assert grid_size(fields) == 6
    assert read_plan({"suggester": "grid"}, fields).jobs == 6
    assert read_plan({"suggester": "grid", "jobs": 4}, fields).jobs == 4


@pytest.mark.parametrize(
    ("plan", "field", "sentence"),
    [
        ({"suggester": "magic"}, "plan.suggester", "random, grid"),
        ({"jobs": 0}, "plan.jobs", "1 to 10000"),
        ({"jobs": True}, "plan.jobs", "whole number"),
        ({"speed": 3}, "plan.speed", "no such field"),
        ({"metric": ""}, "plan.metric", "Name a value"),
        ({"suggester": "grid"}, "plan.suggester", "lists alone"),
        ({"suggester": "cmaes"}, "plan.suggester", "numbers alone"),
        ({"repeats": 5, "stopper": "asha"}, "plan.repeats", "leave the stopper"),
        ({"jobs": 9_000, "repeats": 5}, "plan.repeats", "too many"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_by_field(plan, field, sentence):
    with pytest.raises(InvalidInput) as refused:
        read_plan(plan, read_space(SPACE))
    assert sentence in refused.value.fields[field][0]
