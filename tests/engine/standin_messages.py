"""What a test and the trainer that stands in for a real one say to each other, beside the real messages."""

from dataclasses import dataclass
from typing import Any

from heimdall.trainer.protocol import FromTrainer, ToTrainer


@dataclass(frozen=True)
class Echo(ToTrainer, kind="echo"):
    value: int


@dataclass(frozen=True)
class Print(ToTrainer, kind="print"):
    text: str


@dataclass(frozen=True)
class MakeRows(ToTrainer, kind="make rows"):
    count: int


@dataclass(frozen=True)
class RaiseSignal(ToTrainer, kind="raise signal"):
    name: str


@dataclass(frozen=True)
class CloseAllFiles(ToTrainer, kind="close all files"):
    above: int
    in_their_place: str = ""
    """A file that is opened so often that it has the pipes' numbers afterwards."""


@dataclass(frozen=True)
class ForkChild(ToTrainer, kind="fork child"):
    keep: bool


@dataclass(frozen=True)
class ListChildFiles(ToTrainer, kind="list child files"):
    pass


@dataclass(frozen=True)
class Ready(FromTrainer, kind="standin ready"):
    facts: dict[str, Any]


@dataclass(frozen=True)
class Echoed(FromTrainer, kind="echoed"):
    value: int


@dataclass(frozen=True)
class Printed(FromTrainer, kind="printed"):
    pass


@dataclass(frozen=True)
class RowsMade(FromTrainer, kind="rows made"):
    pass


@dataclass(frozen=True)
class ChildForked(FromTrainer, kind="child forked"):
    pid: int


@dataclass(frozen=True)
class ChildFiles(FromTrainer, kind="child files"):
    fds: list[str]


@dataclass(frozen=True)
class Left(FromTrainer, kind="left"):
    heard: list[str]


@dataclass(frozen=True)
class StartDaemon(ToTrainer, kind="start daemon"):
    """A process that forked twice, in a session of its own."""


@dataclass(frozen=True)
class TerminateChild(ToTrainer, kind="terminate child"):
    """Start a program, ask it to end, and wait for it."""


@dataclass(frozen=True)
class ChildTerminated(FromTrainer, kind="child terminated"):
    code: int
