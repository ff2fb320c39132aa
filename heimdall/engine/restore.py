"""Load a checkpoint into freshly built parts, the generators last.

Each part loads by itself, as torch does: what its own load_state_dict() takes is taken. Afterwards the parts must
hold exactly what the file holds, names, shapes, types and values: nothing is dropped, cast or rounded silently.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from heimdall.engine.ema import WeightAverage
from heimdall.engine.errors import Refused
from heimdall.engine.parts import OWN
from heimdall.engine.snapshot import state_of
from heimdall.recipes.base import Part

EXACT_PARTS = ("model", "ema", "modules", "buffers")
"""Parts that must hold nothing beside what the file holds, as those of the recipe's own must."""


def restore(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    _check_names(parts, loaded)
    # Loading may draw random numbers as building does, so the generators are the last of the dict.
    for name, part in parts.items():
        try:
            if name in loaded:
                _load(part, copy.deepcopy(loaded[name]))
        except (KeyError, ValueError, RuntimeError, TypeError, IndexError, AttributeError) as error:
            raise _refused(f"its part {name} does not fit the recipe: {_in_one_line(error)}") from error
    _check_values(parts, loaded)


def _load(part: Part, state: dict[str, Any]) -> None:
    if isinstance(part, nn.Module):
        _make_room_in_buffers(part, state)
    elif isinstance(part, WeightAverage):
        _make_room_in_buffers(part.model, state["model"])
    with _types_kept():
        part.load_state_dict(state)


def _make_room_in_buffers(model: nn.Module, state: Mapping[str, Any]) -> None:
    """A buffer may have grown since the build, or been made since then: torch would refuse another shape."""
    for path, value in state.items():
        module_path, _, name = path.rpartition(".")
        if not isinstance(value, Tensor):
            continue
        with contextlib.suppress(AttributeError):  # another name than torch gives is the model's own affair
            module = model.get_submodule(module_path)
            if name not in module._buffers:
                continue
            now = module._buffers[name]
            if now is None or now.shape != value.shape:
                weight = next(model.parameters(), value) if now is None else now
                dtype = value.dtype if now is None else now.dtype
                module._buffers[name] = torch.empty(value.shape, dtype=dtype, device=weight.device)


@contextlib.contextmanager
def _types_kept() -> Iterator[None]:
    """torch gives an optimizer's tensors the type of their weights, whatever they had when they were saved.

    However deep they lie, and in whatever optimizer that another one holds: each keeps its own here.
    """
    name = "_process_value_according_to_param_policy"
    found = vars(Optimizer).get(name)
    if found is None:  # a torch that does not cast
        yield
        return
    cast = found.__func__

    def moved(param: Tensor, value: Tensor, *arguments: Any, **options: Any) -> Tensor:
        result: Tensor = cast(param, value, *arguments, **options)
        return result if result.dtype == value.dtype else value.to(result.device)

    setattr(Optimizer, name, staticmethod(moved))
    try:
        yield
    finally:
        setattr(Optimizer, name, found)


def _check_names(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    # Files of before there was a part have none of it. A part that is empty when it is built loses nothing by that.
    missing = [name for name, part in parts.items() if name not in loaded and part.state_dict()]
    if missing:
        raise _refused(f"it has no part {', '.join(missing)}")
    unknown = [name for name in loaded if name not in parts]
    if unknown:
        raise _refused(f"this training has no part {', '.join(unknown)}")


def _check_values(parts: Mapping[str, Part], loaded: Mapping[str, Any]) -> None:
    """A part that casts, rounds or drops what it is given is noticed here."""
    now, wanted = dict(_leaves(state_of(parts))), dict(_leaves(loaded))
    for path, value in wanted.items():
        if path not in now:
            raise _refused(f"{_name(path)} is in it and finds no place")
        if not _equal(now[path], value) and not _is_learning_rate(path):
            raise _refused(_difference(path, now[path], value))
    for path in now:
        if path not in wanted and (path[0] in EXACT_PARTS or str(path[0]).startswith(OWN)):
            raise _refused(f"{_name(path)} is not in it and is there after loading")


def _difference(path: tuple[Any, ...], now: Any, wanted: Any) -> str:
    if isinstance(now, Tensor) and isinstance(wanted, Tensor) and _kind(now) != _kind(wanted):
        return f"{_name(path)} is {_kind(wanted)} in it, and {_kind(now)} after loading"
    return f"{_name(path)} is not what it was after loading"


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


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(piece) for piece in path)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _refused(sentence: str) -> Refused:
    # The file is good: it is another recipe, or another config, that it was made with.
    return Refused("does_not_fit", f"The checkpoint does not fit: {sentence}.")
