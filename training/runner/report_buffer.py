"""What a trainer said and the database does not know yet, and the reports in which it is told."""

from __future__ import annotations

import time
from typing import Any

from heimdall.trainer.protocol import EpochDone, StateHashed
from training.services import Report

MOST_STEPS_AT_ONCE = 5_000  # in one transaction: others wait for the database meanwhile, and the lease runs
MOST_STEPS = 100_000  # while the database is away; what comes after them stays where it is
MOST_LOG_CHARACTERS = 256 * 1024
SECONDS_TO_WAIT = 0.25  # how long something may wait for the next heartbeat
_GAP = "\n[... a part of the log was left out ...]\n"


class ReportBuffer:
    """Filled by the trainer's messages, emptied by reports: each is sent again until the database has answered."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[EpochDone] = []
        self.hashed: list[StateHashed] = []
        self.phase: str | None = None
        self.total_steps: int | None = None
        self.log = ""
        self.step_seconds: float | None = None  # a moving average
        self.is_unanswered = False  # whether the last report was written: its answer was lost
        self._has_reported_steps = False
        self._stepped_at = time.monotonic()

    def __bool__(self) -> bool:
        return bool(self.steps or self.epochs or self.hashed or self.log or self.phase is not None)

    @property
    def needs_several_reports(self) -> bool:
        return len(self.steps) > MOST_STEPS_AT_ONCE

    @property
    def is_full(self) -> bool:
        return len(self.steps) >= MOST_STEPS

    # Filled.

    def add_steps(self, rows: list[dict[str, Any]]) -> None:
        self.steps.extend(rows)
        self.measure_pace(len(rows))

    def add_log(self, text: str) -> None:
        self.log += text
        if len(self.log) > MOST_LOG_CHARACTERS:
            half = MOST_LOG_CHARACTERS // 2
            self.log = self.log[:half] + _GAP + self.log[-half:]

    def start_clock(self) -> None:
        """What came before the first step is not its duration."""
        self._stepped_at = time.monotonic()

    def measure_pace(self, steps: int) -> None:
        now = time.monotonic()
        pace = (now - self._stepped_at) / max(steps, 1)
        self._stepped_at = now
        self.step_seconds = pace if self.step_seconds is None else 0.8 * self.step_seconds + 0.2 * pace

    # Emptied.

    def is_due(self, seconds_since_last: float) -> bool:
        """The first step is reported at once, and so is what is left of many."""
        is_urgent = self.needs_several_reports or (bool(self.steps) and not self._has_reported_steps)
        return bool(self) and (is_urgent or seconds_since_last >= SECONDS_TO_WAIT)

    def next_report(self, trainer_pid: int | None) -> Report:
        """All, or of many steps the oldest, with the epochs that they closed.

        Until `mark_reported`, nobody knows whether it is written: the next one says so.
        """
        is_again, self.is_unanswered = self.is_unanswered, True
        steps, epochs = self._first_steps(), self._first_epochs()
        hashed = tuple(self.hashed)
        return Report(
            steps,
            epochs,
            self.log,
            hashed,
            self.phase,
            trainer_pid,
            self.step_seconds,
            self.total_steps,
            is_again=is_again,
        )

    def mark_reported(self) -> None:
        """The database has answered: what the last report said is known there."""
        self.is_unanswered = False
        self._has_reported_steps = self._has_reported_steps or bool(self.steps)
        num_steps, num_epochs = len(self._first_steps()), len(self._first_epochs())
        self.steps, self.epochs = self.steps[num_steps:], self.epochs[num_epochs:]
        self.phase, self.log, self.total_steps, self.hashed = None, "", None, []

    def _first_steps(self) -> list[dict[str, Any]]:
        return self.steps[:MOST_STEPS_AT_ONCE]

    def _first_epochs(self) -> list[EpochDone]:
        if not self.needs_several_reports:
            return self.epochs
        last_step = self._first_steps()[-1]["step"]
        return [epoch for epoch in self.epochs if epoch.step <= last_step]
