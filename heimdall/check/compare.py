"""The first difference between two states, and between two series of steps."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heimdall import codec

Rows = Sequence[Mapping[str, Any]]


def first_difference(one: Path, other: Path) -> str:
    """Where two checkpoint files differ first, as part/name; empty where they hold the same state, bit for bit."""
    return _difference(codec.load(one)[0], codec.load(other)[0])


def differing_parts(one: Path, other: Path) -> list[str]:
    """The names of the parts in which two files differ."""
    left, right = codec.load(one)[0], codec.load(other)[0]
    return [
        name for name in [*left, *(set(right) - set(left))] if _difference(left.get(name), right.get(name))
    ]


def first_other_step(rows: Rows, others: Rows) -> tuple[int, str] | None:
    """The first step of which both know, and in which they differ, and the name of the value. None: they agree."""
    known = {row["step"]: row for row in others}
    for row in rows:
        other = known.get(row["step"])
        if other is None:
            continue
        for name in sorted(row.keys() | other.keys()):
            if not _same_value(row.get(name), other.get(name)):
                return int(row["step"]), name
    return None


def _difference(one: Any, other: Any) -> str:
    left, right = dict(_leaves(one)), dict(_leaves(other))
    for path in [*left, *(path for path in right if path not in left)]:
        if path not in left or path not in right or not _same_value(left[path], right[path]):
            return "/".join(map(str, path)) or "the value"
    return ""


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        yield (*path, "length"), len(value)
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, number))
    else:
        yield path, value


def _same_value(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and _bits(one) == _bits(other)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and bool(one == other)


def _bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
