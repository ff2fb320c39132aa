"""JSON that every reader understands: it has no NaN and no infinities."""

import math
from collections.abc import Callable
from typing import Any


def with_named_floats(value: Any) -> Any:
    """NaN and the infinities become their names: "nan", "inf", "-inf"."""
    return _mapped(value, str)


def with_nulls(value: Any) -> Any:
    """NaN and the infinities become None."""
    return _mapped(value, lambda number: None)


def _mapped(value: Any, replaced: Callable[[float], Any]) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else replaced(value)
    if isinstance(value, dict):
        return {key: _mapped(item, replaced) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, replaced) for item in value]
    return value
