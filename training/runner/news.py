"""What the trainer said and the database does not know yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from heimdall.trainer.protocol import EpochDone

MOST_STEPS_AT_ONCE = 5_000  # in one transaction: others wait for the database meanwhile, and the lease runs
MOST_STEPS = 100_000  # while the database is away; what comes after them stays where it is
MOST_LOG_CHARACTERS = 256 * 1024
_GAP = "\n[... a part of the log was left out ...]\n"


@dataclass
class News:
    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[EpochDone] = field(default_factory=list)
    phase: str | None = None
    log: str = ""

    def __bool__(self) -> bool:
        return bool(self.steps or self.epochs or self.log or self.phase is not None)

    @property
    def are_many(self) -> bool:
        """Whether they are told in pieces."""
        return len(self.steps) > MOST_STEPS_AT_ONCE

    @property
    def are_full(self) -> bool:
        return len(self.steps) >= MOST_STEPS

    def add_log(self, text: str) -> None:
        self.log += text
        if len(self.log) > MOST_LOG_CHARACTERS:
            half = MOST_LOG_CHARACTERS // 2
            self.log = self.log[:half] + _GAP + self.log[-half:]

    def first_piece(self) -> dict[str, Any]:
        """All, or of many the oldest steps, with the epochs that they closed and whatever else there is."""
        steps, epochs = self.steps[:MOST_STEPS_AT_ONCE], self.epochs
        if self.are_many:
            epochs = [epoch for epoch in epochs if epoch.step <= steps[-1]["step"]]
        return {"steps": steps, "epochs": epochs, "phase": self.phase, "log": self.log}

    def without_first_piece(self) -> News:
        told = self.first_piece()
        return News(self.steps[len(told["steps"]) :], self.epochs[len(told["epochs"]) :])
