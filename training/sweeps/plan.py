"""How a sweep searches and how much it may spend: checked here, once, for every door."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from heimdall.errors import InvalidInput
from training.sweeps.space import SearchedField, grid_size

SUGGESTERS = ("random", "grid", "tpe", "cmaes", "qmc")
STOPPERS = ("none", "asha", "hyperband")
GOALS = ("minimize", "maximize")
MOST_JOBS, MOST_AT_ONCE, MOST_REPEATS, MOST_EPOCHS = 10_000, 256, 50, 100_000


@dataclass(frozen=True)
class SweepPlan:
    """suggester: who says what to try. stopper: who says which jobs go on. metric, goal: what is compared at the end
    of an epoch. jobs: combinations to try. repeats: seeds of each. at_once: jobs that are queued or running.
    first_epochs, eta: where the first rung is, and how many times farther the next (asha, hyperband)."""

    suggester: str = "random"
    stopper: str = "none"
    metric: str = "val_loss"
    goal: str = "minimize"
    jobs: int = 20
    repeats: int = 1
    at_once: int = 4
    first_epochs: int = 1
    eta: int = 3
    seed: int = 0

    @property
    def is_staged(self) -> bool:
        return self.stopper != "none"

    @property
    def num_members(self) -> int:
        return self.jobs * self.repeats

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


BOUNDS = {  # of the whole numbers, both ends allowed
    "jobs": (1, MOST_JOBS),
    "repeats": (1, MOST_REPEATS),
    "at_once": (1, MOST_AT_ONCE),
    "first_epochs": (1, MOST_EPOCHS),
    "eta": (2, 10),
    "seed": (0, 2**31 - 1),
}
_WORDS = {"suggester": SUGGESTERS, "stopper": STOPPERS, "goal": GOALS}


def read_plan(given: Any, fields: list[SearchedField]) -> SweepPlan:
    """The plan with its defaults; InvalidInput names each field that was refused. A grid has as many jobs as fit."""
    if not isinstance(given, dict):
        raise InvalidInput({"plan": ["Give an object."]})
    refused: dict[str, list[str]] = {}
    known = SweepPlan().as_dict()
    for name in given:
        if name not in known:
            refused[f"plan.{str(name)[:60]}"] = [f"There is no such field. Choose from: {', '.join(known)}."]
    given = {name: value for name, value in given.items() if name in known}
    for name, words in _WORDS.items():
        if name in given and given[name] not in words:
            refused[f"plan.{name}"] = [f"Choose one of: {', '.join(words)}."]
    for name, (low, high) in BOUNDS.items():
        value = given.get(name, low)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            refused[f"plan.{name}"] = [f"Give a whole number from {low} to {high}."]
    metric = given.get("metric", "val_loss")
    if not isinstance(metric, str) or not 0 < len(metric) <= 100:
        refused["plan.metric"] = [
            "Name a value that the training has at the end of an epoch, such as val_loss."
        ]
    if refused:
        raise InvalidInput(refused)
    return _fitting(SweepPlan(**{**known, **given}), "jobs" in given, fields)


def _fitting(plan: SweepPlan, names_jobs: bool, fields: list[SearchedField]) -> SweepPlan:
    if plan.suggester == "grid":
        size = grid_size(fields)
        if size is None:
            raise InvalidInput({"plan.suggester": ["A grid takes lists alone (choice, grid), without `if`."]})
        if size > MOST_JOBS:
            raise InvalidInput(
                {"space": [f"The grid has {size:,} combinations; at most {MOST_JOBS:,} are tried."]}
            )
        plan = SweepPlan(**{**plan.as_dict(), "jobs": min(plan.jobs, size) if names_jobs else size})
    if plan.suggester == "cmaes" and any(field.is_listed or field.only_if for field in fields):
        raise InvalidInput({"plan.suggester": ["cmaes searches numbers alone: no lists, no `if`. Take tpe."]})
    if plan.num_members > MOST_JOBS:
        raise InvalidInput(
            {"plan.repeats": [f"{plan.num_members:,} jobs are too many; at most {MOST_JOBS:,}."]}
        )
    if plan.is_staged and plan.repeats > 1:
        raise InvalidInput(
            {"plan.repeats": ["Repeats are compared when they are whole: leave the stopper `none`."]}
        )
    return plan
