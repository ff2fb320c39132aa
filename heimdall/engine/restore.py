"""Load a checkpoint into freshly built parts: names, shapes, dtypes, then values, generators last."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from heimdall.engine.parts import GENERATORS, OWN
from heimdall.engine.refused import Refused
from heimdall.engine.snapshot import state_of
from heimdall.recipes.base import Part

WHOLE_PARTS = ("model", "ema")


def restore(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    """Nothing is loaded unless all fits; and afterwards the parts hold exactly what was loaded."""
    _check_names(parts, loaded)
    _check_tensors(parts, loaded)
    # Loading may draw random numbers as building does, so the generators are the last of the dict.
    for name, part in parts.items():
        try:
            if name in loaded:
                _load(part, copy.deepcopy(loaded[name]))
        except (KeyError, ValueError, RuntimeError, TypeError, IndexError, AttributeError) as error:
            raise _refused(f"its part {name} does not fit the recipe: {_in_one_line(error)}") from error
    _check_values(parts, loaded)


def _load(part: Part, state: dict[str, Any]) -> None:
    part.load_state_dict(state)
    if isinstance(part, Optimizer):
        _undo_casts(part, state["state"])


def _undo_casts(optimizer: Optimizer, state: Mapping[Any, Any]) -> None:
    """torch gives an optimizer's tensors the type of their weights, whatever they had when they were saved."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, saved in state.items():
        now = optimizer.state[weights[number]]
        for name, tensor in saved.items():
            if isinstance(tensor, Tensor) and now[name].dtype != tensor.dtype:
                now[name] = tensor.to(now[name].device)


def _check_names(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    # Files of before there was a part have none of it. A part that is empty when it is built loses nothing by that.
    missing = [name for name, part in parts.items() if name not in loaded and part.state_dict()]
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
        if not isinstance(wanted, Tensor) or _may_differ(path):
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
    now, wanted = dict(_leaves(state_of(parts))), dict(_leaves(loaded))
    for path, value in wanted.items():
        if path not in now:
            raise _refused(f"{_name(path)} is in it and finds no place")
        if not _equal(now[path], value) and not _is_learning_rate(path):
            raise _refused(f"{_name(path)} is not what it was after loading")
    for path in now:
        if path not in wanted and path[0].startswith(OWN):
            raise _refused(f"{_name(path)} is not in it and is there after loading")


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
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8)


def _is_learning_rate(path: tuple[Any, ...]) -> bool:
    """The schedule sets it: a training that was made longer goes on with another one."""
    return path[:2] == ("optimizer", "param_groups") and path[-1] == "lr"


def _may_differ(path: tuple[Any, ...]) -> bool:
    """Before loading: what depends on the device, and what may grow in a part of the recipe's own."""
    return path[0].startswith(OWN) or (path[0] == GENERATORS and str(path[1]).startswith("cuda_"))


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(piece) for piece in path)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _refused(sentence: str) -> Refused:
    # The file is good: it is another recipe, or another config, that it was made with.
    return Refused("does_not_fit", f"The checkpoint does not fit: {sentence}.")
