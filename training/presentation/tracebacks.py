"""An error as people read it: its last line first, then the frames of their own code; the machinery's are folded."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FRAME = re.compile(r'^  File "(?P<path>[^"]+)", line \d+')
# What is not the user's: Heimdall but its recipes, installed packages, and Python's own library.
_MACHINERY = re.compile(r"/heimdall/(?!recipes/)|/(?:site|dist)-packages/|/lib/python3\.\d+/|^<frozen ")


@dataclass(frozen=True)
class TracebackPart:
    """Lines that stand together: frames of the user's code, frames of the machinery, or what stands between."""

    text: str
    num_frames: int
    is_machinery: bool

    @property
    def title(self) -> str:
        return f"{self.num_frames} frame{'' if self.num_frames == 1 else 's'} of Heimdall and libraries"


def last_line(text: str) -> str:
    """What happened: the last line that is not indented, or the last one at all."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    outer = [line for line in lines if not line.startswith((" ", "\t"))]
    return (outer or lines or [""])[-1]


def parts_of(text: str) -> list[TracebackPart]:
    """The text in its order; frames one after the other of the same kind are one part."""
    parts: list[TracebackPart] = []
    for lines, is_frame in _blocks(text):
        found = _FRAME.match(lines[0]) if is_frame else None
        is_machinery = bool(found and _MACHINERY.search(found["path"]))
        before = parts[-1] if parts else None
        if before and before.is_machinery == is_machinery:
            lines, number = [before.text, *lines], before.num_frames + is_frame
            parts[-1] = TracebackPart("\n".join(lines), number, is_machinery)
        else:
            parts.append(TracebackPart("\n".join(lines), int(is_frame), is_machinery))
    return parts


def _blocks(text: str) -> list[tuple[list[str], bool]]:
    """Each frame with the lines of code below it, and each run of other lines."""
    blocks: list[tuple[list[str], bool]] = []
    for line in text.splitlines():
        if _FRAME.match(line):
            blocks.append(([line], True))
        elif blocks and (not blocks[-1][1] or line.startswith("    ")):
            blocks[-1][0].append(line)
        else:
            blocks.append(([line], False))
    return blocks
