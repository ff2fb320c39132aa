"""How far a job is: one line that is drawn over on a terminal, elsewhere a line for each change worth one."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from typing_extensions import Self

from heimdall.client.command.base import printable
from heimdall.client.notebook import facts
from heimdall.client.shapes import JobFields

WIDTH = 24
_CLEAR = "\r\x1b[K"


class ProgressOnScreen:
    """Standard error, so that what is piped on stays clean."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown: tuple[Any, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal and self._shown:
            print(file=sys.stderr, flush=True)

    def show(self, job: JobFields) -> None:
        if self._is_terminal:
            print(_CLEAR + line(job), end="", file=sys.stderr, flush=True)
            self._shown = (job.status,)
            return
        seen = (job.status, job.stop and job.stop["kind"], int((job.progress_percent or 0) // 10))
        if seen != self._shown:
            print(line(job), file=sys.stderr, flush=True)
            self._shown = seen


def line(job: JobFields) -> str:
    done = f"{bar(job.progress_percent)} {job.progress_percent:3.0f}%"
    return printable("  ".join([f"job {job.id}", job.headline, done, *facts(job)]))


def bar(percent: float) -> str:
    full = int(WIDTH * min(max(percent, 0.0), 100.0) / 100.0)
    return "#" * full + "." * (WIDTH - full)
