"""What a training has reported and no server has taken yet: bounded, in order, and each part once."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

MOST_KEPT_ROWS = 100_000
MOST_KEPT_CHARACTERS = 1_000_000
ROWS_AT_ONCE, CHARACTERS_AT_ONCE = 500, 200_000
HELD_SECONDS = 1.0  # the newest row waits so long for more values of its step
MOST_VALUES = 100


class PendingReports:
    """Not safe to share by itself: whoever does takes a lock."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.is_urgent = False
        """Whether the newest row is not to be held back."""
        self._rows: deque[dict[str, Any]] = deque()
        self._log, self._log_begins_at = "", 0
        self._step, self._epoch = 0, 0
        self._base = 0
        self._num_taken = self._characters_taken = 0
        self._facts_taken: dict[str, Any] = {}
        self._warned: set[str] = set()

    @property
    def is_empty(self) -> bool:
        return not (self._rows or self._log or self.facts)

    def add_values(self, step: int | None, epoch: int | None, values: dict[str, Any]) -> str | None:
        """A sentence where something is left out, said once for each reason."""
        step = self._step + 1 if step is None else self._counted(int(step))
        row = self._open_row(step, epoch)
        if row is None:
            return self._once(
                f"Step {step} comes after step {self._step}: such values are left out. Steps only grow."
            )
        return self._put(row, "values", values)

    def add_epoch(self, epoch: int, step: int | None, values: dict[str, Any]) -> str | None:
        row = self._open_row(max(self._step, self._counted(step or 0), 1), epoch)
        assert row is not None
        return self._put(row, "epoch_values", values)

    def add_log(self, text: str) -> str | None:
        text = text.replace("\x00", "\\0").encode(errors="backslashreplace").decode()
        self._log += text
        surplus = len(self._log) - MOST_KEPT_CHARACTERS
        if surplus <= 0 or self._characters_taken:
            return None
        self._log, self._log_begins_at = self._log[surplus:], self._log_begins_at + surplus
        return self._once(
            "More was printed than is kept until the server is back: the oldest of it is left out."
        )

    def take(self) -> dict[str, Any] | None:
        """The next report; None where there is nothing to say. `forget_taken` or `keep` follows."""
        rows = self._next_rows()
        log = self._log[:CHARACTERS_AT_ONCE]
        if not (rows or log or self.facts):
            return None
        self._num_taken, self._characters_taken, self._facts_taken = len(rows), len(log), dict(self.facts)
        body = {"rows": rows, "sent_at": time.time(), **self._facts_taken}
        return body | ({"log": log, "log_begins_at": self._log_begins_at} if log else {})

    def forget_taken(self) -> None:
        for _ in range(self._num_taken):
            self._rows.popleft()
        self._log, self._log_begins_at = (
            self._log[self._characters_taken :],
            self._log_begins_at + self._characters_taken,
        )
        for name, value in self._facts_taken.items():
            if self.facts.get(name) == value:
                del self.facts[name]
        self.keep()

    def keep(self) -> None:
        """What was taken did not arrive."""
        self._num_taken = self._characters_taken = 0
        self._facts_taken = {}

    def _next_rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        newest = time.time() - HELD_SECONDS
        for row in self._rows:
            is_held = row is self._rows[-1] and row["at"] > newest and not self.is_urgent
            if len(found) == ROWS_AT_ONCE or is_held or (found and row["step"] == found[-1]["step"]):
                break
            found.append(row)
        return found

    def _counted(self, step: int) -> int:
        """Heimdall counts finished steps, from 1: of a training that counts from 0 all are moved by one."""
        if step == 0 and not self._step:
            self._base = 1
        return step + self._base

    def _open_row(self, step: int, epoch: int | None) -> dict[str, Any] | None:
        """The newest row where it is this step's and not on its way, else a new one; None for a step that is past."""
        if step < self._step:
            return None
        self._step, self._epoch = step, max(self._epoch, int(epoch or 0))
        newest = self._rows[-1] if len(self._rows) > self._num_taken else None
        if (
            newest is None
            or newest["step"] != step
            or (newest["epoch"] != self._epoch and "epoch_values" in newest)
        ):
            newest = {"step": step, "epoch": self._epoch, "at": time.time()}
            self._rows.append(newest)
        newest["epoch"] = self._epoch
        return newest

    def _put(self, row: dict[str, Any], name: str, values: dict[str, Any]) -> str | None:
        kept = row.setdefault(name, {})
        kept.update(values)
        if len(kept) > MOST_VALUES:
            row[name] = dict(list(kept.items())[:MOST_VALUES])
            return self._once(f"More than {MOST_VALUES} values of a step are left out.")
        if len(self._rows) <= MOST_KEPT_ROWS:
            return None
        del self._rows[self._num_taken]  # the oldest that is not on its way
        return self._once(
            "More steps were reported than are kept until the server is back: the oldest are left out."
        )

    def _once(self, sentence: str) -> str | None:
        kind = sentence.rpartition(":")[2]
        is_new = kind not in self._warned
        self._warned.add(kind)
        return sentence if is_new else None
