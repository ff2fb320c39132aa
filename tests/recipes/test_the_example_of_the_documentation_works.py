"""The recipes of README and documentation are short, are found, and train in a real trainer, resumed or not."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heimdall.recipes import registry
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
from heimdall.trainer.warm import WarmLauncher
from tests.support.running import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def _files() -> dict[str, str]:
    """`wave` of docs/recipes.md, and `line` of the README, which needs no __init__.py."""
    text = (ROOT / "README.md").read_text() + (ROOT / "docs/recipes.md").read_text()
    return dict(re.findall(r"^`((?:wave|line)/\w+\.py)`\n\n```python\n(.*?)^```", text, re.M | re.S))


@pytest.fixture
def wave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, text in ({"wave/__init__.py": ""} | _files()).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HEIMDALL_RECIPES", "wave,line")
    return "wave"


@pytest.fixture
def launcher(wave: str) -> Iterator[Launcher]:
    """Torch is imported once for all trainers, where that is possible."""
    launcher = WarmLauncher()
    yield launcher
    launcher.close()


def _train(
    folder: Path, launcher: Launcher, *, recipe: str = "wave", stop: bool = False, **resumed: Any
) -> tuple[StagedCheckpoint, list[dict[str, Any]]]:
    """The last staged checkpoint, and the steps that led to it."""
    folder.mkdir(exist_ok=True)
    spec = TrainerSpec(
        package=registry.get(recipe).package,
        config=registry.validate(recipe, {"batch_size": 64, "seed": 5}),
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
    assert set(files) == {
        f"{package}/{name}.py" for package in ("line", "wave") for name in ("config", "recipe")
    }
    lines = {name: [line for line in text.splitlines() if line.strip()] for name, text in files.items()}
    assert len(lines["wave/config.py"] + lines["wave/recipe.py"]) < 60
    assert len(lines["line/config.py"] + lines["line/recipe.py"]) <= 13


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


def test_the_line_of_the_readme_is_found(tmp_path: Path, launcher: Launcher) -> None:
    staged, steps = _train(tmp_path / "line", launcher, recipe="line")
    assert staged.step == len(steps) == steps[-1]["step"]
    assert steps[-1]["loss"] < steps[0]["loss"]
