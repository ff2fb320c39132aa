"""A command under a real trainer, and the conversation with it."""

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from heimdall.attached.program import Program
from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import StagedCheckpoint, StopTraining, TrainerSpec
from tests.engine.attempts import resumed_from
from tests.support.running import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples"


def command_spec(
    folder: Path, command: list[str], *, config: dict[str, Any] | None = None, resumes: Any = None, **fields: Any
) -> TrainerSpec:  # fmt: skip
    """folder: where the code lies; what is staged goes beside it. resumes: the staged checkpoint to go on from."""
    staging = folder.with_name(f"{folder.name}-staged")
    staging.mkdir(exist_ok=True)
    program = Program(command=command, **fields)
    return TrainerSpec(
        package="",
        config=config or {},
        staging=str(staging),
        device="cpu",
        driver="heimdall.attached.command",
        program={"program": program.model_dump(mode="json"), "code": ""},
        folder=str(folder),
        **(resumed_from(resumes) if resumes else {}),
    )


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def bash(code: str) -> list[str]:
    return ["bash", "-c", code]


class Led:
    """A trainer that is led by the test; every wait has a deadline."""

    def __init__(self, spec: TrainerSpec, **options: Any) -> None:
        self.trainer = Trainer.start(spec, **options)
        self.messages: list[Any] = []
        self.log = ""

    def until(self, kind: str, *, is_it: Any = lambda message: True) -> Any:
        deadline = time.monotonic() + 60 * PATIENCE
        while time.monotonic() < deadline:
            message = self.trainer.receive(0.2)
            self.log += self.trainer.read_log()
            if message is not None:
                self.messages.append(message)
                if message.kind == kind and is_it(message):
                    return message
            elif self.trainer.exit_status() is not None:
                break
        raise AssertionError(f"no {kind} in {[each.kind for each in self.messages]}; the log: {self.log}")

    def until_step(self, step: int) -> None:
        self.until("steps", is_it=lambda message: message.rows[-1]["step"] >= step)

    def until_it_says(self, text: str) -> str:
        """The log up to and with the text."""
        deadline = time.monotonic() + 60 * PATIENCE
        while text not in self.log:
            assert time.monotonic() < deadline, self.log
            assert self.trainer.exit_status() is None, self.log
            message = self.trainer.receive(0.05)
            if message is not None:
                self.messages.append(message)
            self.log += self.trainer.read_log()
        return self.log

    def stop(self) -> StagedCheckpoint:
        """Ask for a stop; what it was stopped with."""
        self.trainer.send(StopTraining("step"))
        stopped = self.until("stopped")
        staged = self.of("staged")[-1]
        assert (staged.step, "pause" in staged.kinds) == (stopped.step, True)
        return staged

    def exit_status(self) -> int:
        deadline = time.monotonic() + 30 * PATIENCE
        while time.monotonic() < deadline:
            message = self.trainer.receive(0.05)
            if message is not None:
                self.messages.append(message)
            self.log += self.trainer.read_log()
            status = self.trainer.exit_status()
            if status is not None:
                return status
        raise AssertionError(f"it does not end: {self.log}")

    def of(self, kind: str) -> list[Any]:
        return [message for message in self.messages if message.kind == kind]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for message in self.of("steps") for row in message.rows]

    def close(self) -> None:
        self.trainer.kill()
        self.trainer.close()


def shell_words(path: Path) -> str:
    return shlex.quote(str(path))


def processes_with(mark: str) -> list[psutil.Process]:
    """Living processes that have this in their environment: whatever a command started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("MARK") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_there_are(count: int, mark: str) -> None:
    deadline = time.monotonic() + 15 * PATIENCE
    while len(found := processes_with(mark)) < count:
        assert time.monotonic() < deadline, [each.cmdline() for each in found]
        time.sleep(0.01)


def wait_until_none_is_left(mark: str) -> None:
    deadline = time.monotonic() + 15 * PATIENCE
    while left := processes_with(mark):
        assert time.monotonic() < deadline, [(each.pid, each.cmdline()) for each in left]
        time.sleep(0.01)


def new_mark(tmp_path: Path) -> str:
    return f"{os.getpid()}-{tmp_path.name}"
