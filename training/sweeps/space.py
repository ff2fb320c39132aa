"""The space of a sweep: for each setting the values that it may take.

{"learning_rate": {"log_uniform": [1e-4, 1e-1]}, "optimizer": {"choice": ["adam", "sgd"]},
 "momentum": {"uniform": [0.0, 0.99], "if": {"optimizer": "sgd"}}, "batch_size": {"grid": [16, 32, 64]}}
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from heimdall.errors import InvalidInput

MOST_FIELDS, MOST_CHOICES = 50, 1_000
KINDS = ("choice", "grid", "uniform", "log_uniform", "int", "log_int")
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class SearchedField:
    """One setting: a kind of KINDS with its values (choice, grid) or its two ends, and the condition it hangs on."""

    name: str
    kind: str
    values: tuple[Any, ...]
    only_if: tuple[tuple[str, Any], ...] = ()

    @property
    def is_listed(self) -> bool:
        return self.kind in ("choice", "grid")

    def counts(self, chosen: dict[str, Any]) -> bool:
        """Whether it is chosen at all, after the fields before it were."""
        return all(chosen.get(name) == value for name, value in self.only_if)


def read_space(space: Any) -> list[SearchedField]:
    """The fields in an order in which each stands behind those that it hangs on; InvalidInput names what is wrong."""
    if not isinstance(space, dict) or not space:
        raise InvalidInput(
            {"space": ['Name at least one setting: {"learning_rate": {"log_uniform": [1e-4, 0.1]}}.']}
        )
    if len(space) > MOST_FIELDS:
        raise InvalidInput({"space": [f"At most {MOST_FIELDS} settings can be searched, not {len(space)}."]})
    return _in_order([_field(name, wanted) for name, wanted in space.items()])


def write_space(fields: list[SearchedField]) -> dict[str, Any]:
    """As it is kept and shown; `read_space` gives the same fields again."""
    written = {}
    for field in fields:
        one: dict[str, Any] = {field.kind: list(field.values)}
        written[field.name] = one | ({"if": dict(field.only_if)} if field.only_if else {})
    return written


def grid_size(fields: list[SearchedField]) -> int | None:
    """How many combinations there are; None where a field is no list, or hangs on another."""
    if any(not field.is_listed or field.only_if for field in fields):
        return None
    return math.prod(len(field.values) for field in fields)


def _field(name: Any, wanted: Any) -> SearchedField:
    where = f"space.{name}"
    if not isinstance(name, str) or not name or len(name) > 100:
        raise InvalidInput({"space": ["Each setting has a name of at most 100 characters."]})
    if isinstance(wanted, list):
        wanted = {"choice": wanted}
    if not isinstance(wanted, dict):
        raise InvalidInput(
            {where: [f"Say what it may be by one of {', '.join(KINDS)}, or give a list of values."]}
        )
    kinds = [kind for kind in wanted if kind in KINDS]
    others = [key for key in wanted if key not in KINDS and key != "if"]
    if len(kinds) != 1 or others:
        raise InvalidInput({where: [f"Give exactly one of {', '.join(KINDS)}, and besides at most `if`."]})
    kind = kinds[0]
    values = (
        _list_of(where, wanted[kind]) if kind in ("choice", "grid") else _ends_of(where, kind, wanted[kind])
    )
    return SearchedField(name, kind, values, _condition_of(where, wanted.get("if", {})))


def _list_of(where: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list) or not 1 <= len(values) <= MOST_CHOICES:
        raise InvalidInput({where: [f"Give a list of 1 to {MOST_CHOICES} values."]})
    if not all(
        isinstance(value, _SCALARS) and (not isinstance(value, float) or math.isfinite(value))
        for value in values
    ):
        raise InvalidInput({where: ["Values are texts, finite numbers, true, false or null."]})
    if len({(type(value), value) for value in values}) < len(values):
        raise InvalidInput({where: ["A value stands there twice."]})
    return tuple(values)


def _ends_of(where: str, kind: str, ends: Any) -> tuple[Any, ...]:
    wanted = int if kind in ("int", "log_int") else (int, float)
    is_pair = isinstance(ends, list) and len(ends) == 2
    if not is_pair or not all(isinstance(end, wanted) and not isinstance(end, bool) for end in ends):
        raise InvalidInput(
            {where: [f"{kind} takes two {'whole ' if wanted is int else ''}numbers: [low, high]."]}
        )
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInput({where: ["The first number has to be below the second, and both finite."]})
    if kind in ("log_uniform", "log_int") and low <= 0:
        raise InvalidInput({where: [f"{kind} begins above 0, not at {low}."]})
    return (low, high) if wanted is int else (float(low), float(high))


def _condition_of(where: str, condition: Any) -> tuple[tuple[str, Any], ...]:
    if not isinstance(condition, dict) or not all(
        isinstance(value, _SCALARS) for value in condition.values()
    ):
        raise InvalidInput({where: ['`if` names another setting and its value: {"optimizer": "sgd"}.']})
    return tuple(condition.items())


def _in_order(fields: list[SearchedField]) -> list[SearchedField]:
    known = {field.name: field for field in fields}
    for field in fields:
        for name, value in field.only_if:
            if name not in known:
                raise InvalidInput({f"space.{field.name}": [f"It hangs on {name}, which is not searched."]})
            if not known[name].is_listed or value not in known[name].values:
                raise InvalidInput({f"space.{field.name}": [f"{name} can never be {value!r}."]})
    ordered: list[SearchedField] = []
    while len(ordered) < len(fields):
        there = {field.name for field in ordered}
        ready = [f for f in fields if f.name not in there and all(name in there for name, _ in f.only_if)]
        if not ready:
            raise InvalidInput({"space": ["Some settings hang on each other in a circle."]})
        ordered += ready
    return ordered
