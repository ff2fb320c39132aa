"""The choices of a field, from an enumeration of the lifecycle."""

from __future__ import annotations


def choices(enum: type) -> list[tuple[str, str]]:
    return [(member.value, member.value.replace("_", " ")) for member in enum if member.value]
