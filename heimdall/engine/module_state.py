"""What a model is beside its state_dict: which weights are trained, which modules are in eval mode, plain attributes.

torch keeps none of these. A recipe may change them while it trains (unfreeze a layer at an epoch, count in an
attribute), and a resumed training builds the model anew: so that what changed since the build is a part.
"""

import copy
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heimdall.engine.parts import GENERATOR_TYPES, OneGenerator

_VALUES = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    torch.dtype,
    torch.device,
    torch.Size,
    np.generic,
)
_CONTAINERS = (list, tuple, set, frozenset, deque, dict, OrderedDict, defaultdict, Counter)
_TORCH_OWN = frozenset(vars(nn.Module())) | {"_is_full_backward_hook", "_compiled_call_impl"}
_UNKNOWN = object()


class TrainingModes:
    """Which modules are in training mode. Validation changes that for a while, and it is put back as it was."""

    def __init__(self, model: nn.Module) -> None:
        """A model that comes whole in eval mode, as pretrained ones do, is put in training mode; modules that its
        recipe has put in eval mode stay there."""
        self._model = model
        flags = _training_flags(model) if model.training else {}
        model.train()
        _set_training_flags(model, flags)

    def __enter__(self) -> None:
        self._before = _training_flags(self._model)

    def __exit__(self, *error: object) -> None:
        self._model.train()
        _set_training_flags(self._model, self._before)


class ModuleState:
    """A part: of these models, what has changed since they were built. Mostly it is empty."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        # The training waits for state_dict(): what it looks at is found once.
        self._weights = [
            (f"{name}.{path}", weight)
            for name, model in models.items()
            for path, weight in model.named_parameters()
        ]
        self._modules = [
            (f"{name}.{path}".rstrip("."), module)
            for name, model in models.items()
            for path, module in model.named_modules()
        ]
        self._trained = [weight.requires_grad for _, weight in self._weights]
        self._modes = [module.training for _, module in self._modules]
        self._attributes = [_Attributes(path, module) for path, module in self._modules]
        self._not_kept: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {}
        trained = [weight.requires_grad for _, weight in self._weights]
        if trained != self._trained:
            state["requires_grad"] = _changed(self._weights, trained, self._trained)
        modes = [module.training for _, module in self._modules]
        if modes != self._modes:
            state["training"] = _changed(self._modules, modes, self._modes)
        kept: dict[str, Any] = {}
        not_kept = set(self._not_kept)
        for attributes in self._attributes:
            attributes.collect(kept, not_kept)
        if kept:
            state["attributes"] = kept
        if not_kept:
            state["not_kept"] = sorted(not_kept)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        weights, modules = dict(self._weights), dict(self._modules)
        for path, is_trained in state.get("requires_grad", {}).items():
            weights[path].requires_grad_(is_trained)
        for path, mode in state.get("training", {}).items():
            modules[path].training = mode
        for path, value in state.get("attributes", {}).items():
            module, _, name = path.rpartition(".")
            _put(modules[module], name, value)
        self._not_kept = list(state.get("not_kept", ()))

    def why_approximate(self) -> list[str]:
        """What the checkpoint that was loaded could not hold. Each is read after "because"."""
        return [
            f"{what} had changed while the model trained, and no checkpoint keeps it"
            for what in self._not_kept
        ]


class _Attributes:
    """The plain attributes of one module, beside what they were when it was built."""

    def __init__(self, path: str, module: nn.Module) -> None:
        self._path = path
        self._module = module
        self._own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        built = {name: value for name, value in vars(module).items() if name not in _TORCH_OWN}
        self._num_attributes = len(vars(module))
        self._built = {name: (value, self._kept(value, deep=True)) for name, value in built.items()}
        # What cannot change in itself, and what nobody can look into, is known by its identity.
        self._constants = [
            (name, value)
            for name, (value, kept) in self._built.items()
            if _is_fixed(value) or kept is _UNKNOWN
        ]
        self._variables = self._built.keys() - {name for name, _ in self._constants}

    def collect(self, kept: dict[str, Any], not_kept: set[str]) -> None:
        """Add what has changed, by path; and the names of what has changed and cannot be kept."""
        now = vars(self._module)
        changed = [name for name, value in self._constants if now.get(name) is not value]
        if len(now) != self._num_attributes:
            changed += [name for name in now if name not in self._built and name not in _TORCH_OWN]
        for name in (*changed, *self._variables):
            if name in now:
                self._compare(name, now[name], kept, not_kept)

    def _compare(self, name: str, value: Any, kept: dict[str, Any], not_kept: set[str]) -> None:
        before = self._built.get(name, (_UNKNOWN, _UNKNOWN))[1]
        found = self._kept(value)
        if found is _UNKNOWN:
            if not self._is_own(value):
                not_kept.add(f"{self._path}.{name} ({type(value).__name__})")
        elif before is _UNKNOWN or not _same(found, before):
            kept[f"{self._path}.{name}"] = found

    def _kept(self, value: Any, *, deep: bool = False) -> Any:
        """The value as a checkpoint may hold it: `deep`, so that later changes do not reach it."""
        if isinstance(value, GENERATOR_TYPES):
            value = OneGenerator(value).state_dict()
        elif not self._is_plain(value):
            return _UNKNOWN
        value = _mapped(value, Tensor.detach)
        return copy.deepcopy(value) if deep else value

    def _is_plain(self, value: Any, depth: int = 0) -> bool:
        if isinstance(value, _VALUES):
            return True
        if type(value) in (Tensor, np.ndarray):
            return id(value) not in self._own and getattr(value, "layout", torch.strided) is torch.strided
        if type(value) not in _CONTAINERS or depth > 16:
            return False
        items = (*value.keys(), *value.values()) if isinstance(value, Mapping) else value
        return all(self._is_plain(item, depth + 1) for item in items)

    def _is_own(self, value: Any) -> bool:
        """Whether it is made of the module's own weights and modules, as an LSTM's list of weights is."""
        if isinstance(value, list | tuple):
            return all(map(self._is_own, value))
        return isinstance(value, nn.Parameter | nn.Module) or id(value) in self._own or callable(value)


def _training_flags(model: nn.Module) -> dict[str, bool]:
    return {path: module.training for path, module in model.named_modules()}


def _set_training_flags(model: nn.Module, flags: Mapping[str, bool]) -> None:
    # From the top down: a module's own train() has the say over what lies below, until that is looked at itself.
    for path, module in model.named_modules():
        if module.training != flags.get(path, module.training):
            module.train(flags[path])


def _changed(things: list[tuple[str, Any]], now: list[bool], before: list[bool]) -> dict[str, bool]:
    return {
        path: value for (path, _), value, old in zip(things, now, before, strict=True) if value is not old
    }


def _is_fixed(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_fixed, value))
    return isinstance(value, _VALUES)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same value with other tensors."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) is dict:
        return {key: _mapped(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(item, change) for item in value)
    return value


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) or bool(one != one and other != other)


def _put(module: nn.Module, name: str, value: Any) -> None:
    now = vars(module).get(name)
    if isinstance(now, GENERATOR_TYPES):
        OneGenerator(now).load_state_dict(value)
        return
    weight = next(module.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    vars(module)[name] = _mapped(value, lambda tensor: tensor.to(device))
