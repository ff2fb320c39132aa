"""What the databases can store: text without NUL, numbers without NaN, and no more of either than fits."""

from __future__ import annotations

from typing import Any

from heimdall.plain_json import with_nulls_for_names

MAX_LOG_CHARACTERS = 64 * 1024  # of one chunk
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
    return with_nulls_for_names(value, text=storable)


def shortened(text: str, limit: int) -> str:
    text = storable(text)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
