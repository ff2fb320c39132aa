"""In a trainer only `heimdall` and the user's folders can be imported: a package `training` is the user's."""

import sys
import time
from pathlib import Path

import pytest

from heimdall.trainer.cold import ColdLauncher
from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import Exit, Failed, FileStored, Finished, StagedCheckpoint, TrainerSpec
from heimdall.trainer.warm import WarmLauncher
from tests.support.running import PATIENCE

RECIPE = """
import bench, tests, training
from heimdall import TrainingRecipe
import torch
from training.losses import loss

class Points:
    def __len__(self):
        return 8
    def sample(self, index, seed):
        return torch.ones(2), torch.ones(1)

class Recipe(TrainingRecipe):
    def training_samples(self):
        return Points()
    def model(self):
        for package in (bench, tests, training):
            print(package.__name__, package.__file__, flush=True)
        return torch.nn.Linear(2, 1)
    def loss(self, model, batch):
        return loss(model(batch[0]), batch[1])
"""
CONFIG = """
from heimdall import TrainingConfig
TITLE, DESCRIPTION, JOB_TYPE = "Own", "A user's own.", "training"
class Config(TrainingConfig):
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A user's folder, whose packages have names that Heimdall's own repository has too."""
    folder = tmp_path / "own"
    for path, text in {
        "training/__init__.py": "",
        "training/losses.py": "from torch.nn.functional import mse_loss as loss\n",
        "tests/__init__.py": "",
        "bench/__init__.py": "",
        "mine/__init__.py": "",
        "mine/config.py": CONFIG,
        "mine/recipe.py": RECIPE,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture(params=["cold", "warm"])
def launcher(request, folder):
    if request.param == "cold":
        yield ColdLauncher()
        return
    if sys.platform != "linux":
        pytest.skip("fork servers are for Linux")
    launcher = WarmLauncher(preload=["heimdall.recipes.config"])
    yield launcher
    launcher.close()


def test_a_recipe_imports_its_own_packages_of_these_names(launcher, folder, tmp_path):
    spec = TrainerSpec(
        package="mine",
        config={"epochs": 1, "device": "cpu"},
        staging=str(tmp_path),
        scratch=str(tmp_path),
        device="cpu",
        threads=1,
    )
    trainer = Trainer.start(spec, launcher=launcher)
    printed, end = "", None
    try:
        deadline = time.monotonic() + 90 * PATIENCE
        while trainer.exit_status() is None and time.monotonic() < deadline:
            match trainer.receive(0.2):
                case StagedCheckpoint(path=path):
                    trainer.send(FileStored(path))
                case Finished() | Failed() as end:
                    trainer.send(Exit())
            printed += trainer.read_log()
        printed += trainer.read_log()
    finally:
        trainer.close()
    assert isinstance(end, Finished), (end, printed)
    for package in ("bench", "tests", "training"):
        assert f"{package} {folder / package / '__init__.py'}" in printed
