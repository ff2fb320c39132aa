"""Showing on a terminal how far a job is, and in a file only what changed."""

from __future__ import annotations

from typing import Any, TextIO

WIDTH = 30
_CLEAR = "\r\x1b[K"


class ProgressLine:
    """One line that is drawn over on a terminal. Elsewhere a line when the state changes, and one each tenth."""

    def __init__(self, stream: TextIO, *, is_terminal: bool):
        self._stream = stream
        self._is_terminal = is_terminal
        self._shown: tuple[Any, ...] = ()
        self._drawn = False

    def show(self, job: dict[str, Any]) -> None:
        if self._is_terminal:
            self._stream.write(_CLEAR + line(job))
            self._drawn = True
        else:
            state = (
                "running" if job["headline"] == "validating" else job["headline"]
            )  # each epoch, to and fro
            seen = (job["status"], state, int(job["progress_percent"] // 10))
            if seen == self._shown:
                return
            self._shown = seen
            self._stream.write(line(job) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the last line standing."""
        if self._drawn:
            self._stream.write("\n")
            self._stream.flush()


def line(job: dict[str, Any]) -> str:
    parts = [f"job {job['id']}", f"[{bar(job['progress_percent'])}] {job['progress_percent']:5.1f}%"]
    if job["total_epochs"]:
        parts.append(f"epoch {job['current_epoch']}/{job['total_epochs']}")
    parts.append(f"step {job['current_step']}" + (f"/{job['total_steps']}" if job["total_steps"] else ""))
    if job["train_loss"] is not None:
        parts.append(f"loss {job['train_loss']:.4g}")
    if job["eta_seconds"] is not None:
        parts.append(f"{duration(job['eta_seconds'])} left")
    return "  ".join([*parts, job["headline"]])


def bar(percent: float) -> str:
    full = int(WIDTH * min(max(percent, 0.0), 100.0) / 100.0)
    return "#" * full + "." * (WIDTH - full)


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    cells = [head, *(tuple("" if cell is None else str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(text.rstrip() for text in lines)


def printable(text: str) -> str:
    """What a job printed or was called, without the signs that would command a terminal or that none can show."""
    return "".join(sign if _can_be_shown(sign) else "?" for sign in text)


def _can_be_shown(sign: str) -> bool:
    is_control = sign < " " or "\x7f" <= sign <= "\x9f"
    is_half_a_pair = "\ud800" <= sign <= "\udfff"  # of a file's name that is not UTF-8
    return sign in "\n\t" or not (is_control or is_half_a_pair)
