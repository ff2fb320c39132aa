"""One event, one line: whatever stands in a message, nobody can forge a line of the log or command a terminal.

Names, file names and what libraries say are other people's text. Control characters, line separators and marks that
turn the direction of writing are shown as escapes; a further line, of a traceback for instance, begins with a bar.
"""

import logging
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings

_ODD = re.compile(r"[^\x20-\x7e]")
_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
BAR = "    | "
HIDDEN = "********"


def escaped(text: str) -> str:
    """The text in one line, with nothing in it that is not seen."""
    return _ODD.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    sign = found[0]
    is_odd = unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"}
    if is_odd or unicodedata.bidirectional(sign) in _DIRECTIONS or sign in "\u200e\u200f\u061c\ufeff":
        return sign.encode("unicode_escape").decode("ascii")
    return sign


class OneLine(logging.Formatter):
    """Text for people."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _barred(record.message)
        return super().formatMessage(record)

    def formatException(self, ei) -> str:
        return BAR + _barred(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return BAR + _barred(super().formatStack(stack_info))


def _barred(text: str) -> str:
    return f"\n{BAR}".join(escaped(line) for line in text.rstrip("\n").split("\n"))


_about: dict[str, Any] = {}


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Every record of this process carries these facts meanwhile, whichever thread and library writes it.

    For a process that does one thing at a time, such as a supervisor; nothing like a request of many.
    """
    global _about
    before, _about = _about, _about | facts
    try:
        yield
    finally:
        _about = before


class About(logging.Filter):
    """Adds what the process is about; what a record says itself comes first."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _about.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class Discreet(logging.Filter):
    """Hides the secret key and the passwords of other servers, should anybody ever log them."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        found = [secret for secret in settings.SECRETS if secret in message]
        for secret in found:
            message = message.replace(secret, HIDDEN)
        if found:
            record.msg, record.args = message, None
        return True
