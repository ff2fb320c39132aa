"""Commands that go on until a job is at rest: logs, watch. A server that is restarted meanwhile is waited for."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from heimdall.client.command import exits
from heimdall.client.command.base import (
    JobNumber,
    Json,
    client,
    command,
    complain,
    is_terminal,
    printable,
    say,
)
from heimdall.client.command.plot import drawn
from heimdall.client.command.progress import line
from heimdall.client.feed import JobStream
from heimdall.client.shapes import Update

LOG_LINES, CURVE_ROWS, MOST_POINTS = 6, 9, 4_000


@command("logs")
def show_logs(
    job: JobNumber,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is at rest.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only the last so many lines.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what a job's training printed."""
    with client() as server:
        found = server.job(job)
        after = 0
        pieces = found._list("logs", after=0)
        after = pieces[-1]["id"] if pieces else 0
        _print_pieces(pieces, tail, as_json)
        if not follow:
            return
        stream = JobStream(job, f"after={found.fields.event_seq}&log={after}")
        stream.seen["log"] = after
        for update in server.server.follow(stream, frozenset({"log"})):
            _print_pieces([update.data], None, as_json)
    complain(f"Job {job} is {stream.shown['status']}.")


def _print_pieces(pieces: list[dict[str, Any]], tail: int | None, as_json: bool) -> None:
    if as_json:
        for piece in pieces:
            say(piece, "", as_json=True)
        return
    text = "".join(piece["text"] for piece in pieces)
    if tail is not None:
        text = "".join(text.splitlines(keepends=True)[-tail:] if tail else [])
    sys.stdout.write(printable(text) if is_terminal() else text)
    sys.stdout.flush()


@command("watch")
def watch_job(
    job: JobNumber,
    metric: Annotated[str, typer.Option(help="The metric whose curve is drawn.")] = "loss",
    as_json: Json = False,
) -> int:
    """Watch a job: progress, curve and log, until it is at rest. Ctrl-C leaves the job alone."""
    with client() as server:
        found = server.job(job)
        stream = JobStream(job)
        kinds = frozenset({"job", "event", "step", "epoch", "log", "rollback", "restored"})
        updates = server.server.follow(stream, kinds)
        if as_json:
            for update in updates:
                say({"kind": update.kind, "data": update.data}, "", as_json=True)
        elif is_terminal():
            _draw(found, updates, WatchedJob(metric))
        else:
            for update in updates:
                _tell(found, update)
    return exits.of_waiting("watch", stream.shown.get("status") or found.status)


def _tell(job: Any, update: Update) -> None:
    """Where nothing can be drawn over: what happened, a line each."""
    if update.kind == "event":
        print(printable(f"{update.data['created_at'][:19]}  {update.data['message']}"), flush=True)
    elif update.kind == "epoch":
        values = {name: value for name, value in update.data.items() if isinstance(value, float)}
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(printable(f"epoch {update.data['epoch']}  step {update.data['step']}  {shown}"), flush=True)


class WatchedJob:
    """What a terminal shows of a job that is watched."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.fields: Any = None
        self.points: dict[int, float] = {}
        self.log = ""
        self.event = ""

    def take(self, update: Update) -> None:
        from heimdall.client.shapes import JobFields

        data = update.data
        if update.kind == "job":
            self.fields = JobFields.of(data)
        elif update.kind == "event":
            self.event = data["message"]
        elif update.kind == "log":
            self.log = (self.log + data["text"])[-20_000:]
        elif update.kind == "rollback":
            self.points = {step: value for step, value in self.points.items() if step <= data["step"]}
        elif update.kind == "restored":
            self.points, self.log = {}, ""
        elif isinstance(value := data.get(self.metric), int | float):
            self.points[data["step"]] = value
            if len(self.points) > MOST_POINTS:  # the whole curve stays, with fewer points
                self.points = dict(list(self.points.items())[::2])

    def lines(self, width: int) -> list[str]:
        if self.fields is None:
            return ["..."]
        log = [text[: width - 2] for text in self.log.splitlines()[-LOG_LINES:]]
        head = [f"{self.fields.job_name}", line(self.fields), self.event]
        curve = drawn(self.points, width=width, rows=CURVE_ROWS, title=self.metric)
        return [printable(text)[:width] for text in [*head, *curve, *log]]


def _draw(job: Any, updates: Any, watched: WatchedJob) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    watched.fields = job.fields
    with Live(
        console=console,
        refresh_per_second=8,
        get_renderable=lambda: Text("\n".join(watched.lines(console.width - 1))),
    ):
        for update in updates:
            watched.take(update)
