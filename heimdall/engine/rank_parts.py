"""What each rank has of its own, in the one file that a checkpoint of all of them is.

The weights, the optimizer and the counts are the same on every rank. The generators are not: `rng` has each rank's by
its number. Of other parts `ranks` has what differs from rank 0's, a part of the recipe's own for instance.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from heimdall.engine.errors import Refused
from heimdall.engine.logical import COMMON, LogicalGenerators
from heimdall.engine.packing import packed, unpacked
from heimdall.engine.parts import BUFFERS, GENERATORS, MODULES, OWN
from heimdall.engine.ranks import Ranks
from heimdall.engine.rng import Generators, mix
from heimdall.engine.sharded import ShardedModel, ShardedOptimizer, SharedMemory
from heimdall.engine.snapshot import NOTHING_KEPT, KeptTensors
from heimdall.recipes.base import Part

RANKS = "ranks"
OTHER_COUNT = (
    "The checkpoint was made on {made_on} devices, and the job has {count} now: it would not go on exactly. Set "
    "devices back to {made_on}, or set other_device_count to approximate."
)


class _State:
    """A part whose state is known."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError("it is only saved")


def of_all(
    parts: Mapping[str, Part],
    ranks: Ranks,
    memory: SharedMemory,
    *,
    may_differ: Callable[[str, Any], bool],
) -> tuple[dict[str, Part], KeptTensors]:
    """The parts as the file of all ranks has them, on rank 0. Each rank calls it at the same place."""
    own = {
        name: _bytes_as_tensor(packed(part.state_dict()))
        for name, part in parts.items()
        if may_differ(name, part)
    }
    gathered = ranks.gather(packed(own))
    sharded = {
        name: part for name, part in parts.items() if isinstance(part, ShardedModel | ShardedOptimizer)
    }
    states, kept = memory.whole_states(sharded) if sharded else ({}, NOTHING_KEPT)
    if not ranks.is_leader:
        return {}, NOTHING_KEPT
    together = {**parts, **{name: _State(state) for name, state in states.items()}}
    return together | _differing([unpacked(data) for data in gathered]), kept


def _differing(found: list[dict[str, Tensor]]) -> dict[str, Part]:
    """Of each rank what it has of its own: the generators, and what differs from rank 0's."""
    generators = _generators_of_all([_state_in(each[GENERATORS]) for each in found])
    first, others = found[0], {}
    for rank, each in enumerate(found):
        differing = {
            name: _state_in(data)
            for name, data in each.items()
            if name != GENERATORS and not torch.equal(data, first[name])
        }
        if differing:
            others[str(rank)] = differing
    if others and COMMON in generators:
        _refuse_what_differs(others)
    together: dict[str, Part] = {GENERATORS: _State(generators)}
    return together | ({RANKS: _State(others)} if others else {})


def _bytes_as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _state_in(data: Tensor) -> Any:
    return unpacked(data.numpy().tobytes())


def _generators_of_all(found: list[dict[str, Any]]) -> dict[str, Any]:
    if COMMON in found[0]:  # of logical ranks, by their numbers
        return {name: state for each in found for name, state in each.items()}
    return {str(rank): each for rank, each in enumerate(found)}


def _refuse_what_differs(differing: Mapping[str, Mapping[str, Any]]) -> None:
    names = sorted({name for states in differing.values() for name in states})
    raise Refused(
        "does_not_fit",
        f"devices: elastic gives the same bits on any number of devices, and {', '.join(names)} of the recipe "
        "differs from device to device. Keep it the same on all of them, or take a fixed number of devices.",
    )


def num_ranks(loaded: Mapping[str, Any]) -> int:
    """How many ranks made the checkpoint, or how many logical ones."""
    names = loaded.get(GENERATORS, {}).keys() - {COMMON}
    return 1 if "torch" in names or not names else len(names)


def of_rank(loaded: Mapping[str, Any], rank: int, *, fresh: Any) -> dict[str, Any]:
    """What one rank loads of it. `fresh` gives the generators of a rank that was not there."""
    own = {name: state for name, state in loaded.items() if name != RANKS}
    own |= loaded.get(RANKS, {}).get(str(rank), {})
    generators = loaded.get(GENERATORS, {})
    if generators and "torch" not in generators:
        own[GENERATORS] = generators.get(str(rank)) or fresh()
    elif generators and rank:
        own[GENERATORS] = fresh()
    return own


def own_rows(parts: Mapping[str, Part], own: dict[str, Any]) -> dict[str, Any]:
    """Of whole weights those rows that this rank holds."""
    return own | {
        name: part.own_rows(own[name])
        for name, part in parts.items()
        if name in own and isinstance(part, ShardedModel | ShardedOptimizer)
    }


def of_logical_ranks(
    loaded: Mapping[str, Any], generators: LogicalGenerators, *, seed: int, step: int
) -> dict[str, Any]:
    """What a process of an elastic training loads. Of a file of another kind it takes no generators."""
    own = {name: state for name, state in loaded.items() if name != RANKS}
    if GENERATORS in own:
        if COMMON not in own[GENERATORS]:
            generators.seed(seed, step)
        now = generators.state_dict()
        own[GENERATORS] = {name: own[GENERATORS].get(name, now[name]) for name in now}
    return own


def fresh_generators(generators: Generators, seed: int, rank: int, step: int) -> dict[str, Any]:
    with generators.set_aside(mix(seed, "rank", rank, step)):
        return generators.state_dict()


def may_differ_in_a_recipe(name: str, part: Any) -> bool:
    return name in (GENERATORS, MODULES, BUFFERS) or name.startswith(OWN)
