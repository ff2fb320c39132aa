"""Load a checkpoint into freshly built parts: names, shapes, dtypes, then values, generators last."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.engine.refused import Refused
from training.engine.snapshot import state_of
from training.engine.spec import Part

GENERATORS = "rng"
WHOLE_PARTS = ("model", "ema")


def restore(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    """Nothing is loaded unless all fits; and afterwards the parts hold exactly what was loaded."""
    _check_names(parts, loaded)
    _check_tensors(parts, loaded)
    # Loading may draw random numbers as building does, so the generators are the last of the dict.
    for name, part in parts.items():
        try:
            part.load_state_dict(copy.deepcopy(loaded[name]))
        except (KeyError, ValueError, RuntimeError, TypeError, IndexError, AttributeError) as error:
            raise _refused(f"its part {name} does not fit the recipe: {_in_one_line(error)}") from error
    _check_values(parts, loaded)


def _check_names(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    missing = [name for name in parts if name not in loaded]
    if missing:
        raise _refused(f"it has no part {', '.join(missing)}")
    unknown = [name for name in loaded if name not in parts]
    if unknown:
        raise _refused(f"this training has no part {', '.join(unknown)}")


def _check_tensors(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    found = {path: tensor for path, tensor in _leaves(loaded) if isinstance(tensor, Tensor)}
    expected = dict(_leaves(state_of(parts)))
    for path in found:
        # Optimizers make their tensors at the first step; models have all of theirs from the beginning.
        if path not in expected and path[0] in WHOLE_PARTS:
            raise _refused(f"the recipe builds no tensor {_name(path)}")
    for path, wanted in expected.items():
        if not isinstance(wanted, Tensor) or _is_of_a_device(path):
            continue
        tensor = found.get(path)
        if tensor is None:
            raise _refused(f"it has no tensor {_name(path)}")
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            raise _refused(
                f"{_name(path)} is {_kind(tensor)} in it, and {_kind(wanted)} is what the recipe builds"
            )


def _check_values(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    """A part that casts, rounds or drops what it is given is noticed here."""
    now = dict(_leaves(state_of(parts)))
    for path, value in _leaves(loaded):
        if path not in now:
            raise _refused(f"{_name(path)} is in it and finds no place")
        if not _equal(now[path], value) and not _is_learning_rate(path):
            raise _refused(f"{_name(path)} is not what it was after loading")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, number))
    else:
        yield path, value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bits(one), _bits(other))
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and bool(one == other)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _is_learning_rate(path: tuple[Any, ...]) -> bool:
    """The schedule sets it: a training that was made longer goes on with another one."""
    return path[:2] == ("optimizer", "param_groups") and path[-1] == "lr"


def _is_of_a_device(path: tuple[Any, ...]) -> bool:
    return path[0] == GENERATORS and str(path[1]).startswith("cuda_")


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(piece) for piece in path)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _refused(sentence: str) -> Refused:
    return Refused("bad_checkpoint", f"The checkpoint does not fit: {sentence}.")
