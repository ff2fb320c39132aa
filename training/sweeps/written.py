"""A space as people write it, a setting a line:

learning_rate = log 1e-4 .. 1e-1
dropout = 0 .. 0.5
optimizer = adamw, sgd
momentum = 0.5 .. 0.99 if optimizer = sgd
"""

from __future__ import annotations

import json
import re
from typing import Any

from heimdall.errors import InvalidInput

_RANGE = re.compile(r"(?P<log>log\s+)?(?P<low>\S+)\s*\.\.\s*(?P<high>\S+)")
_CONDITION = re.compile(r"^(?P<values>.*?)\s+if\s+(?P<name>[\w.-]+)\s*==?\s*(?P<value>.+)$")


def read_written(text: str, *, field: str = "space") -> dict[str, Any]:
    """The same as JSON; a whole JSON object is taken as it is. InvalidInput names the line."""
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput({field: [f"This is no JSON: {error}."]}) from error
        return found
    space: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, sign, values = line.partition("=")
        if not sign or not name.strip() or not values.strip():
            raise InvalidInput(
                {field: [f"Line {number}: write a setting, =, and its values, such as lr = log 1e-4 .. 0.1."]}
            )
        if name.strip() in space:
            raise InvalidInput({field: [f"Line {number}: {name.strip()} stands there twice."]})
        space[name.strip()] = _values_of(values.strip(), number, field)
    return space


def write_written(space: dict[str, Any]) -> str:
    """The lines of a space, for a form that starts with it."""
    return "\n".join(f"{name} = {_written(wanted)}" for name, wanted in space.items())


def _values_of(text: str, number: int, field: str) -> dict[str, Any]:
    condition: dict[str, Any] = {}
    if found := _CONDITION.match(text):
        text, condition = found["values"], {"if": {found["name"]: _value(found["value"])}}
    if found := _RANGE.fullmatch(text):
        return _range_of(found, number, field) | condition
    return {"choice": [_value(part) for part in text.split(",")]} | condition


def _range_of(found: re.Match[str], number: int, field: str) -> dict[str, Any]:
    ends = [_value(found["low"]), _value(found["high"])]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise InvalidInput({field: [f"Line {number}: a range goes from a number to a number."]})
    is_whole = all(isinstance(end, int) for end in ends)
    kind = ("log_int" if is_whole else "log_uniform") if found["log"] else ("int" if is_whole else "uniform")
    return {kind: ends}


def _value(text: str) -> Any:
    """A number, true, false, null; else the text as it stands."""
    try:
        return json.loads(text.strip())
    except ValueError:
        return text.strip()


def _written(wanted: dict[str, Any]) -> str:
    kind = next(kind for kind in wanted if kind != "if")
    values = [value if isinstance(value, str) else json.dumps(value) for value in wanted[kind]]
    text = ", ".join(values) if kind in ("choice", "grid") else " .. ".join(values)
    if kind.startswith("log"):
        text = f"log {text}"
    for name, value in wanted.get("if", {}).items():
        text += f" if {name} = {value if isinstance(value, str) else json.dumps(value)}"
    return text
