"""What to try next. Optuna answers in a process of its own, which keeps nothing.

Its state is made anew from our rows, so nothing is lost with it, and no process that stays carries its memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.errors import SuggestionFailed
from training.sweeps.plan import SweepPlan
from training.sweeps.space import SearchedField, write_space

SECONDS = 120.0


@dataclass(frozen=True)
class TriedCombination:
    """What was tried, and what came of it so far: the metric by epoch; is_over: nothing more comes."""

    params: dict[str, Any]
    values: dict[int, float]
    is_over: bool


def suggest(
    plan: SweepPlan, fields: list[SearchedField], tried: Sequence[TriedCombination], count: int
) -> list[dict[str, Any]]:
    """So many new combinations; fewer where a grid has no more. Raises SuggestionFailed."""
    answer = _ask(plan, fields, tried, {"count": count})
    return answer["params"]


def importances(
    plan: SweepPlan, fields: list[SearchedField], tried: Sequence[TriedCombination]
) -> dict[str, float]:
    """Which share of the differences each setting explains, by PED-ANOVA; empty where too little is known."""
    return _ask(plan, fields, tried, {"importances": True})["importances"]


def _ask(
    plan: SweepPlan, fields: list[SearchedField], tried: Sequence[TriedCombination], wanted: dict[str, Any]
) -> dict[str, Any]:
    question = wanted | {
        "plan": plan.as_dict(),
        "space": write_space(fields),
        "tried": [
            {"params": one.params, "values": sorted(one.values.items()), "is_over": one.is_over}
            for one in tried
        ],
    }
    command = [sys.executable, "-W", "ignore", "-m", "training.sweeps.optuna_answers"]
    try:
        done = subprocess.run(
            command, input=json.dumps(question), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SuggestionFailed(f"Optuna gave no answer: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise SuggestionFailed(f"Optuna could not say what to try next: {last[:500]}")
    return json.loads(done.stdout)
