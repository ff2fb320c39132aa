"""Whether two states are the same, to the last bit and type."""

import math
import struct
from typing import Any

import numpy as np
import torch


def difference(left: Any, right: Any, where: str = "state") -> str:
    """A sentence about the first difference, or nothing."""
    if type(left) is not type(right):
        return f"{where}: {type(left)} is not {type(right)}"
    if isinstance(left, torch.Tensor):
        return "" if _same_tensor(left, right) else f"{where}: tensors differ"
    if isinstance(left, np.ndarray):
        same = left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
        return "" if same else f"{where}: arrays differ"
    if isinstance(left, np.generic):
        same = left.dtype == right.dtype and left.tobytes() == right.tobytes()
        return "" if same else f"{where}: {left!r} is not {right!r}"
    if isinstance(left, dict):
        if not _same_keys(list(left), list(right)):
            return f"{where}: keys {list(left)} are not {list(right)}"
        return _first(difference(left[key], right[key], f"{where}/{key}") for key in left)
    if isinstance(left, list | tuple) or type(left).__name__ == "deque":
        if len(left) != len(right) or getattr(left, "maxlen", None) != getattr(right, "maxlen", None):
            return f"{where}: lengths differ"
        return _first(
            difference(a, b, f"{where}/{i}") for i, (a, b) in enumerate(zip(left, right, strict=True))
        )
    if isinstance(left, float):
        return "" if struct.pack("d", left) == struct.pack("d", right) else f"{where}: {left} is not {right}"
    if isinstance(left, complex):
        return difference((left.real, left.imag), (right.real, right.imag), where)
    return "" if left == right else f"{where}: {left!r} is not {right!r}"


def _same_tensor(left: torch.Tensor, right: torch.Tensor) -> bool:
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        return False
    if left.dtype.is_complex:
        left, right = torch.view_as_real(left.resolve_conj()), torch.view_as_real(right.resolve_conj())
    return torch.equal(_bits(left), _bits(right))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _same_keys(left: list[Any], right: list[Any]) -> bool:
    pairs = zip(left, right, strict=True)
    return len(left) == len(right) and all(
        type(a) is type(b) and (a == b or _both_nan(a, b)) for a, b in pairs
    )


def _both_nan(left: Any, right: Any) -> bool:
    return isinstance(left, float) and math.isnan(left) and math.isnan(right)


def _first(differences: Any) -> str:
    return next((text for text in differences if text), "")
