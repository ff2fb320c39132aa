"""Memory for snapshots: a copy of any state, as quickly as its tensors can be copied."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from heimdall.codec.tensors import check_tensor_is_kept
from heimdall.engine.copying import Piece, cut

_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})


class Buffer:
    """CPU memory for one snapshot, used again by the next one.

    A state mostly consists of the same tensors as the last time, in the same order. Where that is so for every one of
    them, they also share memory with each other as they did, and each goes where it went; else all is walked anew.
    """

    def __init__(self, copy_pieces: Callable[[list[Piece]], None]) -> None:
        self._copy_pieces = copy_pieces
        self._places: dict[_Path, Tensor] = {}
        self._leaves: list[_Leaf] = []
        self._targets: list[Tensor] = []
        self._cuts: list[slice] = []
        self._is_of_cuda = False

    @torch.no_grad()
    def copy(self, state: Any) -> Any:
        """The same tree over copied tensors. Shared tensors stay shared; containers and values are new."""
        try:
            tree, sources = _copied_again(state, self._leaves)
        except (_Changed, RuntimeError):
            # Some error of torch, such as of a tensor that has become sparse: the walk has words for it.
            walk = _Walk(self._places)
            tree, sources = walk.copied(state), walk.sources
            self._places, self._leaves, self._targets = walk.used, walk.leaves, walk.targets
            self._cuts = cut(self._targets)
            self._is_of_cuda = any(source.device.type == "cuda" for source in sources)
        if self._is_of_cuda:
            _copy_from_cuda(self._targets, sources)
        else:
            self._copy_pieces([(self._targets[piece], sources[piece]) for piece in self._cuts])
        return tree


_Path = tuple[Any, ...]


class _Leaf(NamedTuple):
    """A tensor of the last walk, by all that tells it from others, and where its copy lies."""

    identity: tuple[Any, ...]
    place: Tensor
    is_copied: bool  # and not there already, under an earlier name


class _Changed(Exception):
    """This is not the state that was walked before."""


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """What is equal for two tensors only if they are the same numbers in memory, read in the same way.

    A conjugated view has the address of what it is a view of, and other values.
    """
    return (
        tensor.data_ptr(),
        tensor.get_device(),
        tensor.dtype,
        tensor.shape,
        tensor.is_contiguous(),
        tensor.is_conj(),
        tensor.is_neg(),
    )


def _copied_again(state: Any, leaves: list[_Leaf]) -> tuple[Any, list[Tensor]]:
    """The tree over the places of the last walk, and the tensors to copy there. Raises _Changed at any other tensor.

    The training waits for this, with a cold cache: one function, and nothing that is not needed.
    """
    left = iter(leaves)
    sources: list[Tensor] = []

    def copied(value: Any) -> Any:
        kind = type(value)
        if kind is Tensor or kind is Parameter:
            leaf = next(left, None)
            if leaf is None or leaf[0] != _identity(value):
                raise _Changed
            if leaf[2]:
                sources.append(value)
            return leaf[1]
        if kind in _PLAIN:
            return value
        if kind is dict:
            return {key: copied(item) for key, item in value.items()}
        if kind is OrderedDict:
            return OrderedDict([(key, copied(item)) for key, item in value.items()])
        if kind is list or kind is tuple:
            return kind(value if _PLAIN.issuperset(map(type, value)) else map(copied, value))
        if isinstance(value, Tensor):
            raise _Changed
        return copy.deepcopy(value)

    tree = copied(state)
    if next(left, None) is not None:
        raise _Changed
    return tree, sources


class _Walk:
    """The walk through any state. Tensors whose path is known may have the place of then."""

    def __init__(self, places: dict[_Path, Tensor]) -> None:
        self._places = places
        self._found: dict[tuple[Any, ...], Tensor] = {}
        self.used: dict[_Path, Tensor] = {}
        self.leaves: list[_Leaf] = []
        self.targets: list[Tensor] = []
        self.sources: list[Tensor] = []

    def copied(self, value: Any, path: _Path = ()) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is dict or kind is OrderedDict:
            return kind((key, self.copied(item, (*path, key))) for key, item in value.items())
        if kind is list or kind is tuple:
            return kind(self.copied(item, (*path, number)) for number, item in enumerate(value))
        if isinstance(value, Tensor):
            return self._place_for(value.detach(), path)
        return copy.deepcopy(value)

    def _place_for(self, tensor: Tensor, path: _Path) -> Tensor:
        check_tensor_is_kept(tensor, path)
        identity = _identity(tensor)
        # What is not contiguous may overlap with others; on its own it has none of that.
        is_its_own = not tensor.numel() or not tensor.is_contiguous()
        same = path if is_its_own else identity
        if same in self._found:
            self.leaves.append(_Leaf(identity, self._found[same], is_copied=False))
            return self._found[same]
        place = self._places.get(path)
        if place is None or place.shape != tensor.shape or place.dtype != tensor.dtype:
            place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
        self.leaves.append(_Leaf(identity, place, is_copied=True))
        self.targets.append(place)
        self.sources.append(tensor)
        self.used[path] = self._found[same] = place
        return place


def _copy_from_cuda(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
