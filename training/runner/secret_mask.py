"""Hides a program's secrets in what its trainer prints, also where a value comes in two pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "********"
SHORTEST = 6  # what is shorter may be a part of any word


class SecretMask:
    def __init__(self, values: Iterable[str]):
        words = {word for value in values for word in _forms(value) if len(word) >= SHORTEST}
        self._words = sorted(words, key=len, reverse=True)  # of two that begin alike, the longer one is found
        either = "|".join(map(re.escape, self._words))
        self._any = re.compile(either) if words else None
        self._each = re.compile(f"(?=({either}))")  # those, too, that begin within another one
        self._held = ""
        self._covered = 0  # so much of what is held belongs to a secret that is hidden already

    def pass_on(self, text: str) -> str:
        """What may be shown now. What may be the beginning of a secret waits for what follows it."""
        if self._any is None:
            return text
        text = self._held + text
        return self._take(text, len(text) - max(_size_at_the_end(word, text) for word in self._words))

    def rest(self) -> str:
        """What still waited, when nothing follows any more."""
        return self._take(self._held, len(self._held))

    def hide(self, text: str) -> str:
        return self._hidden(text, len(text), 0)[0]

    def _take(self, text: str, end: int) -> str:
        shown, hidden_to = self._hidden(text, end, self._covered)
        self._held, self._covered = text[end:], max(0, hidden_to - end)
        return shown

    def _hidden(self, text: str, end: int, covered: int) -> tuple[str, int]:
        """The text up to `end`, and how far the last secret that begins there goes."""
        shown, at = [], covered
        for start, stop in self._spans(text, covered):
            if start >= end:
                break
            shown += [text[at:start], HIDDEN] if start >= at else []
            at = stop
        return "".join([*shown, text[at:end]]), at

    def _spans(self, text: str, covered: int) -> list[tuple[int, int]]:
        """Where secrets are; those that overlap are one, for what is left of the other could be put together again.
        Whatever overlaps with what is covered goes on from there."""
        spans = [(-1, covered)]
        if self._any is None or self._any.search(text) is None:
            return spans
        for found in self._each.finditer(text):
            start, stop = found.span(1)
            if start < spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], stop))
            else:
                spans.append((start, stop))
        return spans


def _size_at_the_end(word: str, text: str) -> int:
    """How many of its first characters the text ends with, short of all."""
    most = min(len(word) - 1, len(text))
    return next((size for size in range(most, 0, -1) if text.endswith(word[:size])), 0)


def _forms(value: str) -> set[str]:
    """How a program prints it: as it is, line by line, and as it stands in a printed dict, in JSON, in an address."""
    plain = {value, *value.splitlines()}
    return plain | {form for word in plain for form in _quoted(word)}


def _quoted(word: str) -> tuple[str, ...]:
    return (
        repr(word)[1:-1],
        json.dumps(word)[1:-1],
        json.dumps(word, ensure_ascii=False)[1:-1],
        quote(word, errors="replace"),
        quote(word, safe="", errors="replace"),
        quote_plus(word, errors="replace"),
    )
