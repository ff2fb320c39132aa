"""A trainer led through attempts, each in a new process and stopped after the step that is said."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from heimdall.errors import HeimdallError
from heimdall.trainer.handle import Trainer
from heimdall.trainer.launch import Launcher
from heimdall.trainer.protocol import (
    EpochDone,
    Exit,
    Failed,
    FileStored,
    Finished,
    StagedCheckpoint,
    Started,
    StateHashed,
    StepsDone,
    Stopped,
    TrainerSpec,
)

SILENT_SECONDS = 300.0  # a program that says nothing for so long does not come


class NotRehearsed(HeimdallError):
    """The program failed, ended early or said nothing, so that nothing can be compared."""

    code = "not_checked"

    def __init__(self, sentence: str, *, failure: str = "") -> None:
        super().__init__(sentence)
        self.failure = failure
        """The code with which the program failed; empty: it said none."""


class Interrupted(HeimdallError):
    """Whoever asked for it has something better to do."""

    code = "interrupted"


@dataclass
class Rehearsed:
    """What one or several attempts in a row gave."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    checkpoint: Path | None = None
    """The one that the last attempt was stopped or ended with."""
    digest: str = ""
    step: int = 0
    epoch: int = 0
    has_finished: bool = False
    environment: dict[str, Any] = field(default_factory=dict)
    environment_found: dict[str, Any] = field(default_factory=dict)
    """What the newest attempt trained on."""
    hashed: list[StateHashed] = field(default_factory=list)
    """States on the way, where the spec asks for their digests."""
    log: str = ""

    def resumed_from(self) -> dict[str, Any]:
        expected = {"step": self.step, "epoch": self.epoch, "digest": self.digest}
        return {"checkpoint": str(self.checkpoint), "expected": expected, "pinned": self.environment}


class Rehearsal:
    """Attempts of one program, with their files in a folder."""

    def __init__(
        self,
        spec: TrainerSpec,
        folder: Path,
        *,
        launcher: Launcher | None = None,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_interrupted` is asked a few times a second, and while it is true nothing is trained."""
        self._spec, self._folder, self._launcher = spec, folder, launcher
        self._is_interrupted = is_interrupted

    def through(self, stops: Sequence[int | None], *, start: Rehearsed | None = None) -> Rehearsed:
        """One attempt for each stop, each from where the one before it was stopped. None: to the end."""
        found = Rehearsed() if start is None else replace(start, rows=[], epochs=[], hashed=[])
        for stop in stops:
            found = self._attempt(found, stop)
            if found.has_finished:
                break
        return found

    def without(self, left_out: Sequence[str], start: Rehearsed, stop: int | None) -> Rehearsed:
        """An attempt whose restore leaves something out, on purpose."""
        found = replace(start, rows=[], epochs=[])
        return self._attempt(found, stop, leave_out=list(left_out))

    def _attempt(self, before: Rehearsed, stop: int | None, **options: Any) -> Rehearsed:
        staging = Path(tempfile.mkdtemp(prefix="attempt-", dir=self._folder))
        where: Mapping[str, Any] = before.resumed_from() if before.checkpoint else {}
        spec = replace(self._spec, staging=str(staging), until_step=stop, **where, **options)
        trainer = Trainer.start(spec, launcher=self._launcher)
        try:
            return _followed(trainer, before, self._is_interrupted)
        finally:
            trainer.kill()
            trainer.close()


def _followed(trainer: Trainer, before: Rehearsed, is_interrupted: Callable[[], bool]) -> Rehearsed:
    """Take down what a trainer says until it stops or ends."""
    found = replace(
        before, rows=[*before.rows], epochs=[*before.epochs], hashed=[*before.hashed], checkpoint=None
    )
    deadline = time.monotonic() + SILENT_SECONDS
    while time.monotonic() < deadline:
        if is_interrupted():
            raise Interrupted("There is something better to do.")
        message = trainer.receive(0.2)
        if message is None:
            if trainer.exit_status() is None:
                continue
            raise NotRehearsed(f"The program died: {_last_lines(trainer)}")
        deadline = time.monotonic() + SILENT_SECONDS
        match message:
            case Started():
                found.environment = found.environment or message.environment
                found.environment_found = message.environment
            case StepsDone():
                found.rows += message.rows
            case EpochDone():
                found.epochs.append({"epoch": message.epoch, "step": message.step, **message.values})
            case StateHashed():
                found.hashed.append(message)
            case StagedCheckpoint():
                _take(message, found, trainer)
            case Failed():
                raise NotRehearsed(f"The program failed: {message.error}", failure=message.code)
            case Stopped() | Finished():
                found.has_finished = isinstance(message, Finished)
                found.log += trainer.read_log()
                trainer.send(Exit())
                trainer.wait(10)
                return found
    raise NotRehearsed(f"The program said nothing for {SILENT_SECONDS:.0f} seconds: {_last_lines(trainer)}")


def _take(message: StagedCheckpoint, found: Rehearsed, trainer: Trainer) -> None:
    if {"pause", "final"} & set(message.kinds):
        found.checkpoint, found.digest = Path(message.path), message.digest
        found.step, found.epoch = message.step, message.epoch
    trainer.send(FileStored(message.path))


def _last_lines(trainer: Trainer) -> str:
    lines = trainer.read_log().strip().splitlines()
    return "\n".join(lines[-8:]) or "it printed nothing."
