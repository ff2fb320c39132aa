"""JSON that every reader understands: it has no NaN and no infinities."""

import math
from collections.abc import Callable
from typing import Any

NOT_FINITE = frozenset({"nan", "inf", "-inf"})  # the names


def with_named_floats(value: Any) -> Any:
    """NaN and the infinities become their names: "nan", "inf", "-inf"."""
    return _mapped(value, number=str)


def with_nulls(value: Any) -> Any:
    """NaN and the infinities become None."""
    return _mapped(value, number=_none)


def with_nulls_for_names(value: Any, *, text: Callable[[str], str]) -> Any:
    """NaN, the infinities and the names that `with_named_floats` gave them become None; `text` makes all other
    strings, and keys."""
    return _mapped(
        value,
        number=_none,
        text=lambda word: None if word in NOT_FINITE else text(word),
        key=lambda key: text(str(key)),
    )


def is_not_finite(value: Any) -> bool:
    """Whether it is NaN or an infinity, as a number or by its name."""
    return (
        value in NOT_FINITE
        if isinstance(value, str)
        else isinstance(value, float) and not math.isfinite(value)
    )


def _mapped(
    value: Any,
    *,
    number: Callable[[float], Any],
    text: Callable[[str], Any] = lambda word: word,
    key: Callable[[Any], Any] = lambda key: key,
) -> Any:
    def of(item: Any) -> Any:
        if isinstance(item, float):
            return item if math.isfinite(item) else number(item)
        if isinstance(item, str):
            return text(item)
        if isinstance(item, dict):
            return {key(name): of(inner) for name, inner in item.items()}
        return [of(inner) for inner in item] if isinstance(item, list | tuple) else item

    return of(value)


def _none(number: float) -> None:
    return None
