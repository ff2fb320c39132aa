"""From the state of the parts to a staged file: a copy in memory on the training thread, the rest beside it.

snapshot (in memory) -> staged file (durable on this machine) -> stored (the supervisor's work)
"""

import copy
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from training.engine import codec
from training.engine.failpoints import failpoint
from training.engine.spec import Part

BUFFERS = 2
MOST_UNSTORED = 8
_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})


def state_of(parts: Mapping[str, Part]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items()}


class Buffer:
    """CPU memory for one snapshot, used again by the next one.

    A state mostly consists of the same tensors as the last time, in the same order. Where that is so for every one of
    them, they also share memory with each other as they did, and each goes where it went; else all is walked anew.
    """

    def __init__(self) -> None:
        self._places: dict[_Path, Tensor] = {}
        self._leaves: list[_Leaf] = []
        self._targets: list[Tensor] = []

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
        _copy_all(self._targets, sources)
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
        if tensor.layout is not torch.strided:
            raise TypeError(_words_about_sparse(path))
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


def _words_about_sparse(path: _Path) -> str:
    where = "/".join(str(piece) for piece in path)
    return (
        f"{where} is a sparse tensor, and a checkpoint keeps dense ones: for sparse gradients take an optimizer "
        "without momentum, or torch.optim.SparseAdam; in a part of your own, give to_dense()"
    )


@dataclass
class Ticket:
    """One snapshot on its way to a staged file."""

    kinds: list[str]
    step: int
    epoch: int
    val_loss: float | None
    about: dict[str, Any]
    path: Path
    tree: Any = None
    buffer: Buffer | None = None
    started_at: float = field(default_factory=time.perf_counter)
    saved: codec.Saved | None = None
    error: BaseException | None = None
    is_needed: bool = False
    """Somebody waits for it, and gives it back."""
    written: threading.Event = field(default_factory=threading.Event)

    def message(self) -> dict[str, Any]:
        assert self.saved is not None
        return {
            "kind": "staged",
            "path": self.saved.path,
            "key": f"s{self.step}-{self.saved.digest[:16]}",
            "step": self.step,
            "epoch": self.epoch,
            "kinds": self.kinds,
            "digest": self.saved.digest,
            "size": self.saved.size,
            "header_sha256": self.saved.header_sha256,
            "val_loss": self.val_loss,
            "stage_seconds": round(time.perf_counter() - self.started_at, 6),
        }


class Announcer:
    """Tells of staged files. Only so many may wait to be stored: a store that is away fills no disk."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._unstored: set[str] = set()
        self._held: Ticket | None = None

    @property
    def waiting(self) -> int:
        return len(self._unstored)

    @property
    def has_room(self) -> bool:
        return len(self._unstored) < MOST_UNSTORED

    def announce(self, ticket: Ticket) -> None:
        """The newest best one beyond the limit is held back, in place of the one held before it."""
        with self._lock:
            held, self._held = self._held, None
            if not ticket.is_needed and not self.has_room:
                self._held = ticket
                if held is not None:
                    held.path.unlink(missing_ok=True)
                return
            for each in (held, ticket):
                if each is not None:
                    self._tell(each)

    def stored(self, path: str) -> None:
        """The file has been taken over."""
        with self._lock:
            self._unstored.discard(path)
            if self._held is not None and self.has_room:
                held, self._held = self._held, None
                self._tell(held)

    def _tell(self, ticket: Ticket) -> None:
        self._unstored.add(str(ticket.path))
        self._send(ticket.message())


class Stager:
    """Takes snapshots into reused buffers and writes them, one after the other, in a thread of its own."""

    def __init__(self, folder: Path, *, finished: Callable[[Ticket], None]) -> None:
        """`finished` is called on the writing thread with each ticket that has been written or has failed."""
        self._folder = folder
        self._finished = finished
        self._free: queue.SimpleQueue[Buffer] = queue.SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(Buffer())
        self._waiting: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._count = 0
        self._thread = threading.Thread(target=self._write_all, name="stager", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        return not self._free.empty()

    def snapshot(
        self,
        parts: Mapping[str, Part],
        *,
        kinds: list[str],
        step: int,
        epoch: int,
        val_loss: float | None,
        about: dict[str, Any],
    ) -> Ticket:
        """Copy the state now; wait for a buffer if both are still being written. The file comes later."""
        buffer = self._free.get()
        self._count += 1
        path = self._folder / f"s{step}-{self._count}.safetensors"
        ticket = Ticket(kinds, step, epoch, val_loss, about, path, buffer=buffer)
        ticket.tree = buffer.copy(state_of(parts))
        failpoint("snapshot_taken")
        return ticket

    def write(self, ticket: Ticket) -> None:
        """Queue it for writing, for the first time or once more after a failure."""
        ticket.error = None
        ticket.written.clear()
        self._waiting.put(ticket)

    def release(self, ticket: Ticket) -> None:
        """The snapshot is not needed any more, written or not."""
        if ticket.buffer is not None:
            self._free.put(ticket.buffer)
        ticket.buffer = ticket.tree = None

    def close(self) -> None:
        """Finish what is waiting and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while (ticket := self._waiting.get()) is not None:
            try:
                failpoint("before_write")
                gently = not ticket.is_needed  # else the training waits for it
                ticket.saved = codec.save(ticket.path, ticket.tree, ticket.about, gently=gently)
                failpoint("file_staged")
            except BaseException as error:
                ticket.error = error
            self._finished(ticket)
            ticket.written.set()


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    on_cuda = any(source.device.type == "cuda" for source in sources)
    for target, source in zip(targets, sources, strict=True) if on_cuda else ():
        target.copy_(source, non_blocking=True)
    if on_cuda:
        torch.cuda.synchronize()
    elif targets:
        torch._foreach_copy_(targets, sources)
