"""Fully sharded data parallel, torch's fully_shard: each rank holds some rows of every weight and of its moments.

In a checkpoint they are whole, so that any number of ranks can load it, and any tool can read it. Every rank works
out the same layout and copies its rows to their place in memory that all share; rank 0 writes the file from there.
"""

import mmap
import os
import queue
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from heimdall.engine.data import Batch
from heimdall.engine.errors import Refused
from heimdall.engine.loop import Read, Step
from heimdall.engine.ranks import Ranks
from heimdall.engine.snapshot import BUFFERS, KeptTensors, put
from heimdall.recipes.base import TrainingRecipe, split_loss

_ALIGNED = 64  # bytes: where a tensor may begin


def shard(model: nn.Module, recipe: TrainingRecipe, *, ranks: Ranks, device: torch.device) -> None:
    """Leave to each rank its rows of every weight. The recipe names the blocks that are gathered one at a time."""
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    except ImportError as error:
        sentence = f"strategy: fsdp needs torch 2.6 or newer, and this is {torch.__version__}: take ddp."
        raise Refused("does_not_fit", sentence) from error
    mesh = init_device_mesh(device.type, (ranks.count,))
    policy = MixedPrecisionPolicy()
    if recipe.config.precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for module in model.modules():
            if isinstance(module, _BatchNorm):  # its statistics are fp32, and its weights have to be
                fully_shard(module, mesh=mesh)
    for block in recipe.sharded_blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


class ShardedStep(Step):
    """One optimizer step of a rank that holds a share of the weights."""

    def __init__(self, *arguments: Any, ranks: Ranks, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ranks = ranks

    def _add_gradients(self, batches: list[Batch]) -> list[Read]:
        self._ranks.share_buffers(self._model)
        model: Any = self._model
        weight_of_one = self._ranks.count / sum(batch.whole for batch in batches)
        read: list[Read] = []
        for left, batch in zip(reversed(range(len(batches))), batches, strict=True):
            model.set_requires_gradient_sync(not left)
            with self._autocast:
                loss, means = split_loss(self._loss(self._model, batch.data))
            self._backward(loss * (batch.samples * weight_of_one))
            read.append((batch.samples, loss.detach(), {name: mean.detach() for name, mean in means.items()}))
        return read

    def _clip(self) -> Tensor:
        norm: Any = super()._clip()
        return norm.full_tensor() if is_sharded(norm) else norm  # type: ignore[no-any-return]


def is_sharded(value: Any) -> bool:
    return isinstance(value, Tensor) and hasattr(value, "to_local")


def _local(value: Any) -> Any:
    return value.detach().to_local() if is_sharded(value) else value


def _rows_of(whole: Tensor, rank: int, count: int) -> Tensor:
    """As torch cuts it: equal pieces of rows, of which the last ones may be shorter or empty."""
    size = -(-len(whole) // count)
    return whole[rank * size : (rank + 1) * size]


class Rows(NamedTuple):
    """What a rank has of one tensor."""

    local: Tensor
    shape: tuple[int, ...]
    """Of the whole tensor."""
    path: tuple[Any, ...]


class ShardedModel:
    """A part: this rank's rows of the model's weights, and its buffers."""

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self._model, self._ranks = model, ranks

    def state_dict(self) -> dict[str, Any]:
        return OrderedDict((name, _local(value)) for name, value in self._model.state_dict().items())

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        targets = self.state_dict()
        if targets.keys() != state.keys():
            raise KeyError(f"its weights are {sorted(targets.keys() ^ state.keys())[:5]} more or less")
        for name, target in targets.items():
            if target.shape != state[name].shape:
                raise ValueError(f"{name} has another shape")
            target.copy_(state[name])

    def rows(self) -> Iterator[Rows]:
        for name, value in self._model.state_dict().items():
            if is_sharded(value):
                yield Rows(_local(value), tuple(value.shape), (name,))

    def own_rows(self, state: dict[str, Any]) -> dict[str, Any]:
        sharded = {name for name, value in self._model.state_dict().items() if is_sharded(value)}
        number, count = self._ranks.number, self._ranks.count
        return OrderedDict(
            (name, _rows_of(value, number, count) if name in sharded else value)
            for name, value in state.items()
        )


class ShardedOptimizer:
    """A part: the optimizer's state of this rank's rows."""

    def __init__(self, optimizer: Optimizer, ranks: Ranks) -> None:
        self._optimizer, self._ranks = optimizer, ranks

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._optimizer.param_groups

    def state_dict(self) -> dict[str, Any]:
        state = self._optimizer.state_dict()
        state["state"] = {
            number: {name: _local(value) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        weights: list[Any] = self._weights
        state = dict(state)
        state["state"] = {
            number: {name: _as_rows_of(weights[number], value) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        self._optimizer.load_state_dict(state)

    def rows(self) -> Iterator[Rows]:
        for number, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if is_sharded(value):
                    yield Rows(_local(value), tuple(value.shape), ("state", number, name))

    def own_rows(self, state: dict[str, Any]) -> dict[str, Any]:
        weights, number, count = self._weights, self._ranks.number, self._ranks.count

        def own(weight: Tensor, value: Any) -> Any:
            is_of_rows = isinstance(value, Tensor) and is_sharded(weight) and value.shape == weight.shape
            return _rows_of(value, number, count) if is_of_rows else value

        states = {
            index: {name: own(weights[index], value) for name, value in values.items()}
            for index, values in state["state"].items()
        }
        return {**state, "state": states}

    @property
    def _weights(self) -> list[Tensor]:
        return [weight for group in self._optimizer.param_groups for weight in group["params"]]


ShardedPart = ShardedModel | ShardedOptimizer


def _as_rows_of(weight: Any, value: Any) -> Any:
    """A tensor of local rows, as the optimizer holds it."""
    if not (isinstance(value, Tensor) and is_sharded(weight) and value.shape == weight.to_local().shape):
        return value
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        value.to(weight.device).contiguous(),
        weight.device_mesh,
        weight.placements,
        run_check=False,
        shape=weight.shape,
        stride=weight.stride(),
    )


class SharedMemory:
    """Memory of rank 0 that the other ranks of the host write into. There are two areas, as a checkpoint may still be
    written when the next one is made; they grow, and are used again."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._areas: dict[int, mmap.mmap] = {}
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(BUFFERS):
            self._free.put(number)

    def whole_states(self, parts: Mapping[str, ShardedPart]) -> tuple[dict[str, dict[str, Any]], KeptTensors]:
        """The states of these parts without their shared tensors, and those as a whole, which only rank 0 may use.
        All ranks call it at the same place."""
        number = self._ranks.agree(self._free.get() if self._ranks.is_leader else 0)
        rows = [(name, each) for name, part in parts.items() for each in part.rows()]
        places, size = _layout([each for _, each in rows])
        memory = self._of_size(number, size)
        states = {name: part.state_dict() for name, part in parts.items()}
        kept: list[tuple[tuple[Any, ...], Tensor]] = []
        for place, (name, each) in zip(places, rows, strict=True):
            whole = _whole_at(memory, place, each)
            _rows_of(whole, self._ranks.number, self._ranks.count).copy_(each.local)
            put(states, (name, *each.path), None)
            kept.append(((name, *each.path), whole))
        self._ranks.wait_for_all()  # to copy
        return states, KeptTensors(kept, lambda: self._free.put(number))

    def _of_size(self, number: int, size: int) -> mmap.mmap:
        area = self._areas.get(number)
        if area is None or len(area) < size:
            area = self._areas[number] = self._opened(max(size, 1))
        return area

    def _opened(self, size: int) -> mmap.mmap:
        """A memory file of rank 0's: a folder for shared memory may be small, as in containers."""
        file = -1
        if self._ranks.is_leader:
            file = os.memfd_create("heimdall-shards")
            os.ftruncate(file, size)
        owner, number = self._ranks.agree(os.getpid()), self._ranks.agree(file)
        if not self._ranks.is_leader:
            file = os.open(f"/proc/{owner}/fd/{number}", os.O_RDWR)
        memory = mmap.mmap(file, size)
        self._ranks.wait_for_all()  # to open it
        os.close(file)
        return memory


def _layout(rows: list[Rows]) -> tuple[list[int], int]:
    """Where each whole tensor begins, and the size of all."""
    places, end = [], 0
    for each in rows:
        begin = -(-end // _ALIGNED) * _ALIGNED
        places.append(begin)
        end = begin + _num_values(each.shape) * each.local.element_size()
    return places, end


def _whole_at(memory: mmap.mmap, place: int, rows: Rows) -> Tensor:
    count = _num_values(rows.shape)
    if not count:
        return torch.empty(rows.shape, dtype=rows.local.dtype)
    return torch.frombuffer(memory, dtype=rows.local.dtype, count=count, offset=place).reshape(rows.shape)


def _num_values(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
