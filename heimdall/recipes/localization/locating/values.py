"""Single values of a report, as people write them. Each refusal is a sentence that says what to write instead."""

import re
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|\+00:?00)?", re.ASCII | re.IGNORECASE
)
_YES, _NO = {"1", "true", "yes", "y"}, {"0", "false", "no", "n"}
_MOST_CHARACTERS = 60


def number(value: Any, low: float, high: float) -> float:
    """Raises ValueError with a sentence."""
    return float(exact(value, low, high))


def exact(value: Any, low: float, high: float) -> Decimal:
    """Times of arrival may have twenty digits, of which the last ones matter."""
    found = _decimal(value)
    if not low <= found <= high:
        raise ValueError(f"{shown(value)} is not between {low:g} and {high:g}.")
    return found


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"{shown(value)} is not a number.")
    text = str(value).strip()
    if "," in text:
        raise ValueError(f"{shown(value)} has a comma. Write a decimal point, and nothing between thousands.")
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{shown(value)} is not a number.") from None
    if not found.is_finite() or not text.isascii():
        raise ValueError(f"{shown(value)} is not a number.")
    return found


def utc_ns(value: Any) -> Decimal:
    """Nanoseconds since 1970 of a time in UTC such as 2026-11-29T20:15:00.123456789Z."""
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError
        seconds = datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        wanted = "2026-11-29T20:15:00.123456789Z"
        raise ValueError(f"{shown(value)} is not a time in UTC. Write it like {wanted}.") from None
    return Decimal(int(seconds)) * 10**9 + Decimal(f"0.{match[3] or 0}") * 10**9


def flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in _YES | _NO:
        raise ValueError(f"{shown(value)} is neither true nor false.")
    return text in _YES


def name(value: Any) -> str:
    text = str(value).strip()
    if not text or len(text) > _MOST_CHARACTERS or not text.isprintable():
        raise ValueError(f"{shown(value)} is no name: 1 to {_MOST_CHARACTERS} printable characters.")
    return text


def shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
