"""Scripts as programs: run alone or under a supervisor, stopped where it is said, or killed.

A test's script stands in the test, as a text; the examples are scripts, too.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

from heimdall.attached.program import Program
from heimdall.check.compare import first_difference, first_other_step
from heimdall.check.rehearsal import Rehearsal, Rehearsed
from heimdall.recipes.registry import checked
from heimdall.trainer.handle import Trainer
from heimdall.trainer.launch import Launcher
from heimdall.trainer.protocol import Exit, FileStored, StagedCheckpoint, StepsDone, StopTraining, TrainerSpec
from heimdall.trainer.warm import WarmLauncher
from tests.support.running import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DRIVER = "heimdall.attached.script"
ALONE = "tests.attached.alone"
FRAMEWORKS = ("transformers.trainer", "lightning.pytorch", "accelerate")
SECONDS = 60 * PATIENCE
# The example of each case, its arguments, and its config.
CASES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "loop": ("loop", (), {}),
    "loop, 2 workers": ("loop", (), {"workers": 2}),
    "gan": ("gan", (), {}),
    "gan, 2 workers": ("gan", ("--workers", "2"), {}),
    "ppo": ("ppo", (), {}),
    "diffusion": ("diffusion", (), {}),
    "hugging_face": ("hugging_face", (), {}),
    "hugging_face, 2 workers": ("hugging_face", ("--workers", "2"), {}),
    "lightning": ("lightning", (), {}),
    "lightning, 2 workers": ("lightning", ("--workers", "2"), {}),
    "accelerate": ("accelerate", (), {}),
    "accelerate, 2 workers": ("accelerate", ("--workers", "2"), {}),
}


@contextmanager
def warm(*preload: str) -> Iterator[Launcher]:
    """Trainers are forked from one server, which has imported what takes long."""
    launcher = WarmLauncher(preload=[DRIVER, *preload])
    try:
        yield launcher
    finally:
        launcher.close()


def spec_of(folder: Path, script: Path, *arguments: str, hook: str = "", **fields: Any) -> TrainerSpec:
    command = ["python", script.name, *arguments]
    program = checked(Program, {"command": command, "kind": "script", "hook": hook})
    told = {"program": program.model_dump(mode="json"), "code": ""}
    options = {"config": {}, "driver": DRIVER, "staging": str(folder), "scratch": str(folder)} | fields
    return TrainerSpec(package="", folder=str(script.parent), program=told, **options)


def written(folder: Path, text: str) -> Path:
    script = folder / "train.py"
    script.write_text(dedent(text))
    return script


@dataclass
class Ended:
    """What a script said until it ended, and how it did."""

    messages: list[Any] = field(default_factory=list)
    code: int | None = None
    log: str = ""

    def of(self, kind: str) -> list[Any]:
        return [message for message in self.messages if message.kind == kind]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for message in self.of("steps") for row in message.rows]

    @property
    def failure(self) -> Any:
        (failed,) = self.of("failed")
        return failed


def ended(spec: TrainerSpec, launcher: Launcher, *, stop_after_rows: int = 0) -> Ended:
    """Run until the process has ended by itself, asked to stop once so many rows were seen."""
    trainer, found = Trainer.start(spec, launcher=launcher), Ended()
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            message = trainer.receive(0.2)
            if message is None:
                found.code = trainer.exit_status()
                if found.code is not None:
                    found.log += trainer.read_log()
                    return found
                continue
            found.messages.append(message)
            if message.kind == "staged":
                trainer.send(FileStored(message.path))
            elif message.kind in ("stopped", "finished"):
                trainer.send(Exit())
            elif message.kind == "steps" and stop_after_rows and len(found.rows) >= stop_after_rows:
                trainer.send(StopTraining("step"))
                stop_after_rows = 0
    finally:
        trainer.kill()
        trainer.close()
    raise AssertionError(f"it does not end; it said {found.messages[-3:]} and printed {trainer.read_log()}")


def killed(spec: TrainerSpec, launcher: Launcher, *, after_step: int) -> Rehearsed:
    """Run with a checkpoint after every step, and kill it when one of this step or a later one is there."""
    often = replace(spec, config={**spec.config, "checkpoint_every_minutes": 1e-9})
    trainer, found = Trainer.start(often, launcher=launcher), Rehearsed()
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            match trainer.receive(0.2):
                case StepsDone(rows):
                    found.rows += rows
                case StagedCheckpoint() as staged if staged.step >= after_step:
                    found.checkpoint, found.digest = Path(staged.path), staged.digest
                    found.step, found.epoch = staged.step, staged.epoch
                    return found
                case StagedCheckpoint() as staged:
                    trainer.send(FileStored(staged.path))
                case None:
                    assert trainer.exit_status() is None, trainer.read_log()
    finally:
        trainer.kill()  # SIGKILL
        trainer.close()
    raise AssertionError(f"no checkpoint of step {after_step} came: {trainer.read_log()}")


@dataclass
class Attempts:
    """A script straight, and as often as one likes stopped."""

    script: Path
    folder: Path
    launcher: Launcher
    arguments: Sequence[str] = ()
    config: dict[str, Any] = field(default_factory=dict)
    hook: str = ""
    _straight: Rehearsed | None = None

    @property
    def spec(self) -> TrainerSpec:
        return spec_of(self.folder, self.script, *self.arguments, config=self.config, hook=self.hook)

    @property
    def straight(self) -> Rehearsed:
        if self._straight is None:
            self._straight = self.stopped()
        return self._straight

    def stopped(self, *stops: int, start: Rehearsed | None = None) -> Rehearsed:
        """Stopped after these steps, each time in a new process, and then to its end."""
        return Rehearsal(self.spec, self.folder, launcher=self.launcher).through([*stops, None], start=start)

    def killed(self, *, after_step: int) -> Rehearsed:
        start = killed(self.spec, self.launcher, after_step=after_step)
        rest = self.stopped(start=start)
        known = [row for row in start.rows if row["step"] <= start.step]
        return replace(rest, rows=[*known, *rest.rows])

    def epoch_ends(self) -> list[int]:
        return [epoch["step"] for epoch in self.straight.epochs]


def attempts_of(case: str, folder: Path, launcher: Launcher) -> Attempts:
    example, arguments, config = CASES[case]
    return Attempts(EXAMPLES / example / "train.py", folder, launcher, arguments, config)


def difference_of(straight: Rehearsed, other: Rehearsed) -> str:
    """The first thing in which they differ: a row, an epoch, the state. Empty: they are the same, bit for bit."""
    assert straight.checkpoint is not None
    assert other.checkpoint is not None
    if [row["step"] for row in other.rows] != [row["step"] for row in straight.rows]:
        return f"rows of {len(other.rows)} steps in the place of {len(straight.rows)}"
    for name in ("rows", "epochs"):
        found = first_other_step(getattr(straight, name), getattr(other, name))
        if found is not None:
            return f"{name}: step {found[0]}, {found[1]}"
    state = first_difference(straight.checkpoint, other.checkpoint)
    return state or ("" if other.digest == straight.digest else "the digest")


def draw_stops(straight: Rehearsed, count: int, draw: random.Random) -> list[int]:
    return sorted(draw.sample(range(1, straight.step), count))
