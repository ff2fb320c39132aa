"""What the databases can store: text without NUL, numbers without NaN, and no more of either than fits."""

from __future__ import annotations

import math
from typing import Any

MAX_LOG_CHARACTERS = 64 * 1024  # of one chunk; more is cut in the middle
MAX_DETAIL_CHARACTERS = 20_000
MAX_SENTENCE_CHARACTERS = 1_000


def storable(text: str) -> str:
    """PostgreSQL stores no NUL, and no database half of a surrogate pair."""
    return text.replace("\x00", "\\0").encode(errors="backslashreplace").decode()


def gigabytes(size: float) -> str:
    """A size in words."""
    return f"{size / 1e9:.3g} GB"


def finite(value: Any) -> Any:
    """The value with NaN and the infinities (numbers or the trainer's words for them) as null."""
    if isinstance(value, dict):
        return {storable(str(key)): finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return None if value in ("nan", "inf", "-inf") else storable(value)
    return value


def shortened(text: str, limit: int) -> str:
    text = storable(text)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
