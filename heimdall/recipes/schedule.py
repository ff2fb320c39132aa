"""The learning rate of each step."""

import math
from typing import Any

from torch.optim import Optimizer

from heimdall.recipes.base import Plan


class Schedule:
    """Warms up from zero, then stays (constant) or falls to zero along a cosine. A part with one number.

    Groups of weights that the optimizer was built with follow it. One that came later keeps the rate that it came
    with: whoever adds it has the say.
    """

    def __init__(self, optimizer: Optimizer, plan: Plan, *, kind: str) -> None:
        self._optimizer = optimizer
        self._peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self._plan = plan
        self._cosine = kind == "cosine"
        self._steps = 0
        self._apply()

    def step(self) -> None:
        self._steps += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        self._apply()

    def _apply(self) -> None:
        factor = self._factor()
        # Loading an optimizer gives it new groups: they are looked up each time.
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=False):
            group["lr"] = peak * factor

    def _factor(self) -> float:
        warmup, total = self._plan.warmup_steps, self._plan.total_steps
        if self._steps < warmup:
            return (self._steps + 1) / warmup
        if not self._cosine or total <= warmup:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (self._steps - warmup) / (total - warmup))))
