"""The recipe that the documentation teaches is short, is found, and trains in a real trainer, resumed or not."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heimdall.recipes import registry
from heimdall.trainer.forkserver import WarmLauncher
from heimdall.trainer.handle import Trainer
from heimdall.trainer.launch import Launcher
from heimdall.trainer.protocol import (
    Exit,
    Finished,
    StagedCheckpoint,
    Started,
    StepsDone,
    Stopped,
    StopTraining,
    TrainerSpec,
)
from tests.support.running import PATIENCE

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"


def _files() -> dict[str, str]:
    return dict(re.findall(r"^`(wave/\w+\.py)`\n\n```python\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S))


@pytest.fixture
def wave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, text in ({"wave/__init__.py": ""} | _files()).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HEIMDALL_RECIPES", "wave")
    return "wave"


@pytest.fixture
def launcher(wave: str) -> Iterator[Launcher]:
    """Torch is imported once for all trainers, where that is possible."""
    launcher = WarmLauncher()
    yield launcher
    launcher.close()


def _train(
    folder: Path, launcher: Launcher, *, stop: bool = False, **resumed: Any
) -> tuple[StagedCheckpoint, list[dict[str, Any]]]:
    """The last staged checkpoint, and the steps that led to it."""
    folder.mkdir(exist_ok=True)
    spec = TrainerSpec(
        package=registry.get("wave").package,
        config=registry.validate("wave", {"batch_size": 64, "seed": 5}),
        staging=str(folder),
        scratch=str(folder / "scratch"),
        device="cpu",
        threads=1,
        **resumed,
    )
    trainer = Trainer.start(spec, launcher=launcher)
    staged: list[StagedCheckpoint] = []
    steps: list[dict[str, Any]] = []
    try:
        deadline = time.monotonic() + 90 * PATIENCE
        while trainer.exit_status() is None:
            assert time.monotonic() < deadline, trainer.read_log()
            match trainer.receive(0.2):
                case Started() if stop:
                    trainer.send(StopTraining("step"))
                case StepsDone(rows=rows):
                    steps += rows
                case StagedCheckpoint() as message:
                    staged.append(message)
                case Stopped() | Finished():
                    trainer.send(Exit())
        assert trainer.exit_status() == 0, trainer.read_log()
        return staged[-1], steps
    finally:
        trainer.close()


def test_it_is_short() -> None:
    files = _files()
    assert set(files) == {"wave/config.py", "wave/recipe.py"}
    assert sum(len(text.splitlines()) for text in files.values()) < 60


def test_it_is_listed_with_a_form(wave: str) -> None:
    assert wave in registry.names()
    assert registry.problems() == []
    fields = registry.schema(wave)["properties"]
    assert fields["epochs"]["default"] == 4
    assert fields["width"]["maximum"] == 4096


def test_it_trains_and_a_resumed_one_ends_alike(tmp_path: Path, launcher: Launcher) -> None:
    whole, steps = _train(tmp_path / "whole", launcher)
    assert whole.epoch == 4
    assert steps[-1]["loss"] < steps[0]["loss"]
    paused, first = _train(tmp_path / "paused", launcher, stop=True)
    assert paused.step < whole.step
    expected = {name: getattr(paused, name) for name in ("step", "epoch", "digest")}
    resumed, rest = _train(tmp_path / "resumed", launcher, checkpoint=paused.path, expected=expected)
    assert resumed.digest == whole.digest
    assert [row["step"] for row in first + rest] == [row["step"] for row in steps]
    assert [row["loss"] for row in first + rest] == [row["loss"] for row in steps]
