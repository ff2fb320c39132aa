"""Restores that are broken on purpose, so that a check sees that it would notice a fault there."""

import copy
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from heimdall.engine.parts import GENERATORS
from heimdall.recipes.schedule import Schedule

POSITION = "position"
FAULTS = ("generators", "schedule", "optimizer", POSITION)


def with_faults(parts: Mapping[str, Any], loaded: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """The loaded state, but for what is left out: there each part keeps what it was built with.

    A part that holds several of these says itself what is left of its state: `left_out(fault, state)`.
    """
    broken = dict(loaded)
    for fault in faults:
        for name, part in parts.items():
            if name not in broken:
                continue
            if hasattr(part, "left_out"):
                broken[name] = part.left_out(fault, broken[name])
            elif _is_of(fault, name, part):
                broken[name] = copy.deepcopy(part.state_dict())
    return broken


def _is_of(fault: str, name: str, part: Any) -> bool:
    match fault:
        case "generators":
            return name == GENERATORS
        case "schedule":
            return isinstance(part, LRScheduler | ReduceLROnPlateau | Schedule)
        case "optimizer":
            return isinstance(part, Optimizer)
    return False
