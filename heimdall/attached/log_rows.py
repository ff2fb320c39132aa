"""Rows of metrics from what the patterns found in a command's log."""

import time
from collections.abc import Iterable
from typing import Any

MOST_STEPS, MOST_EPOCHS = 2**53, 2**31
OPEN_SECONDS = 1.0  # how long further lines of the same step are waited for
MOST_WAITING = 1_000  # rows between two calls of take_rows: a tenth of a second


class LogRows:
    """A part of a command's checkpoint: where its log is.

    The groups `step` and `epoch` say where a row belongs; lines of one step make one row. Without `step` each line
    with a value is the next step. Steps only grow: what the log repeats after a resume is not told twice. A log that
    counts from 0 is moved by one, and one that counts anew in each epoch goes on after the last step of the epoch
    before.
    """

    def __init__(self, groups: Iterable[str] = ()) -> None:
        self._has_steps = "step" in groups
        self.step = self.epoch = 0
        self._own_step: int | None = None  # as the log said it
        self._base = 0  # the step that the log calls 0
        self._open: dict[str, Any] | None = None
        self._opened_at = 0.0
        self._closed: list[dict[str, Any]] = []
        self._is_repeating = False
        self.has_found = False
        """Whether a line ever gave a row."""
        self.left_out = 0
        """Rows of a log that says more than people or a database can take."""

    def add(self, match: dict[str, str]) -> None:
        """What was found in a line."""
        values = {
            name: value
            for name, text in match.items()
            if name not in ("step", "epoch") and (value := _number(text)) is not None
        }
        is_new_epoch = self._set_epoch(_number(match.get("epoch")))
        own_step = _number(match.get("step"))
        if own_step is not None and own_step.is_integer() and 0 <= own_step < MOST_STEPS:
            self._set_step(int(own_step), is_new_epoch=is_new_epoch)
        elif values and not self._has_steps:
            self._begin(self.step + 1)
        if self._open is not None and not self._is_repeating:
            self._open |= values

    def take_rows(self) -> list[dict[str, Any]]:
        """Finished ones. The one under way is held back for a moment, for further lines of its step."""
        if time.monotonic() - self._opened_at >= OPEN_SECONDS or not self._has_steps:
            self.close_row()
        rows, self._closed = self._closed, []
        return rows

    def close_row(self) -> None:
        if self._open is None:
            return
        self.has_found = True
        if len(self._closed) < MOST_WAITING:
            self._closed.append(self._open)
        else:
            self.left_out += 1
        self._open = None

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "epoch": self.epoch, "own_step": self._own_step, "base": self._base}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.close_row()
        self.step, self.epoch = state["step"], state["epoch"]
        self._own_step, self._base = state["own_step"], state["base"]

    def _set_epoch(self, epoch: float | None) -> bool:
        """Whether a new one has begun."""
        if epoch is None or not self.epoch < epoch < MOST_EPOCHS:
            return False
        has_begun = int(epoch) > self.epoch
        self.epoch = int(epoch)
        return has_begun

    def _set_step(self, own_step: int, *, is_new_epoch: bool) -> None:
        if self._own_step is None:
            self._base = int(own_step == 0)
        elif own_step <= self._own_step and is_new_epoch:
            self._base = self.step + int(own_step == 0)
        step = self._base + own_step
        self._is_repeating = step < self.step
        if not self._is_repeating:
            self._own_step = own_step
        if step > self.step:
            self._begin(step)

    def _begin(self, step: int) -> None:
        self.close_row()
        self.step = step
        self._open, self._opened_at = {"step": step, "epoch": self.epoch}, time.monotonic()


def _number(text: str | None) -> float | None:
    """A bad number is no number: the line is passed over."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
