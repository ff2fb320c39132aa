"""What cannot be kept, and what cannot be read back, with the place where it stands."""

from typing import Any


class CannotEncode(TypeError):
    """A value has a type that a checkpoint does not keep; the message says where it stands."""


class CannotDecode(ValueError):
    """The text or its blobs do not fit together."""


def where(path: tuple[Any, ...]) -> str:
    return "/".join(readable(part) for part in path) or "parts"


def readable(part: Any) -> str:
    """A key as a piece of a tensor's name: short, and ASCII."""
    if type(part) is str:
        text = part
    else:
        text = str(part) if type(part) in (int, float, bool, tuple) else type(part).__name__
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:200])
