"""A log as a terminal shows it in the end: colours stay, a progress bar is what was drawn last. So does log.js."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

_COLOR = re.compile(r"\x1b\[([0-9;]*)m")
_OTHER_STEERING = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-ln-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]"
)
_FIRST_BRIGHT = 90


def shown_log(chunks: Iterable[Any]) -> SafeString:
    """HTML of pieces of a log: each says when it was printed; a colour goes on until another one is set."""
    state: tuple[str, ...] = ()
    shown = []
    for chunk in chunks:
        html, state = _colored(_folded(chunk.text), state)
        moment = chunk.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        shown.append(format_html('<span data-at="{}">{}</span>', moment, html))
    return mark_safe("".join(shown))  # of parts that format_html has made


def _folded(text: str) -> str:
    lines = re.sub(r"^\r+|\r+\n", "\n", _OTHER_STEERING.sub("", text))
    return re.sub(r"[^\n]*\r(?=[^\r\n])", "", lines)


def _colored(text: str, state: tuple[str, ...]) -> tuple[SafeString, tuple[str, ...]]:
    shown, begin = [], 0
    for found in _COLOR.finditer(text):
        shown.append(_span(text[begin : found.start()], state))
        state, begin = _after(state, found[1]), found.end()
    shown.append(_span(text[begin:], state))
    return mark_safe("".join(shown)), state  # each part is escaped


def _span(text: str, state: tuple[str, ...]) -> str:
    text = escape(text.replace("\x1b", ""))
    return f'<span class="{" ".join(state)}">{text}</span>' if state and text else text


def _after(state: tuple[str, ...], codes: str) -> tuple[str, ...]:
    """The classes that hold after a sequence of codes (ECMA-48, "select graphic rendition"): weight and colour."""
    for code in [int(one) if one else 0 for one in codes.split(";")]:
        if code == 0:
            state = ()
        elif code == 1:
            state = (*(one for one in state if one != "ansi-bold"), "ansi-bold")
        elif code == 22:
            state = tuple(one for one in state if one != "ansi-bold")
        elif 30 <= code <= 37 or _FIRST_BRIGHT <= code <= 97:
            color = code - 30 if code < _FIRST_BRIGHT else code - _FIRST_BRIGHT
            state = (*(one for one in state if one == "ansi-bold"), f"ansi-{color}")
        elif code == 39:
            state = tuple(one for one in state if one == "ansi-bold")
    return state
