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
        self._pattern = re.compile("|".join(map(re.escape, self._words))) if self._words else None
        self._held = ""

    def pass_on(self, text: str) -> str:
        """What may be shown now. What may be the beginning of a secret waits for what follows it."""
        if self._pattern is None:
            return text
        text = self._held + text
        end = self._certain(text)
        self._held = text[end:]
        return self.hide(text[:end])

    def rest(self) -> str:
        """What still waited, when nothing follows any more."""
        rest, self._held = self._held, ""
        return self.hide(rest)

    def hide(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def _certain(self, text: str) -> int:
        """Up to where nothing that follows can change what is a secret."""
        assert self._pattern is not None
        done = 0
        for found in self._pattern.finditer(text):
            if found.end() == len(text) and self._may_go_on(found.group()):
                return found.start()
            done = found.end()
        open_ = (size for word in self._words for size in self._sizes(word, text, done))
        return len(text) - max(open_, default=0)

    def _may_go_on(self, text: str) -> bool:
        return any(word.startswith(text) and word != text for word in self._words)

    def _sizes(self, word: str, text: str, done: int) -> Iterable[int]:
        """How many of its first characters the text ends with, at most."""
        most = min(len(word) - 1, len(text) - done)
        return next(((size,) for size in range(most, 0, -1) if text.endswith(word[:size])), ())


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
