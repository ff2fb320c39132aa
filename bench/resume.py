"""How soon the first step comes after a resume at 1, 50 and 99 % of a long epoch, in milliseconds as JSON."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from heimdall.engine.control import StopRequests
from heimdall.engine.recipe_job import RecipeJob
from heimdall.recipes.config import TrainingConfig
from heimdall.trainer.protocol import Exit, FileStored, FromTrainer, GoOn, StopTraining, TrainerSpec
from tests.engine import overhead

SAMPLES = 64_000
STEPS = SAMPLES // overhead.BATCH
PLACES = {"1%": STEPS // 100, "50%": STEPS // 2, "99%": STEPS - STEPS // 100}
ROUNDS = 7


class Points(overhead.Points):
    def __len__(self) -> int:
        return SAMPLES

    def sample(self, index: int, seed: int | None) -> Any:
        return super().sample(index % overhead.SAMPLES, seed)


class Recipe(overhead.Recipe):
    def training_samples(self) -> Points:
        return Points()


class Until(RecipeJob):
    """Notes when each step was finished, and asks to stop after some of them."""

    def prepare(self, requests: StopRequests, places: list[int], *, exit_after: int | None = None) -> None:
        self.asking, self.places, self.exit_after, self.moments = requests, places, exit_after, []

    def step_finished(self) -> None:
        super().step_finished()
        self.moments.append(time.perf_counter())
        done = self._training.loop.progress.steps_completed
        if done in self.places:
            self.asking.receive(StopTraining("step"))
        if len(self.moments) == self.exit_after:
            self.asking.receive(Exit())


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = pauses(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in PLACES}
        for _ in range(ROUNDS):
            for name, path in files.items():
                times[name].append(first_step(path, Path(folder)))
    print(json.dumps({name: 1000 * statistics.median(found[1:]) for name, found in times.items()}))


def pauses(folder: Path) -> dict[str, str]:
    """Train once through the epoch and pause at each place."""
    requests, staged = StopRequests(), []

    def hear(message: FromTrainer) -> None:
        if message.kind == "staged":
            staged.append(message.path)
            requests.receive(FileStored(message.path))
        if message.kind == "stopped":
            requests.receive(Exit() if len(staged) == len(PLACES) else GoOn())

    work = Until(_spec(folder), send=hear, requests=requests)
    work.start(Recipe(_config(), folder), "")
    work.prepare(requests, list(PLACES.values()))
    work.train()
    return dict(zip(PLACES, staged, strict=True))


def first_step(path: str, folder: Path) -> float:
    """Seconds from the loaded state to the end of the first step."""
    requests = StopRequests()
    work = Until(_spec(folder, checkpoint=path), send=lambda message: None, requests=requests)
    work.start(Recipe(_config(), folder), "")
    work.prepare(requests, [], exit_after=1)
    began = time.perf_counter()
    work.train()
    return work.moments[0] - began


def _spec(folder: Path, **options: Any) -> TrainerSpec:
    return TrainerSpec("resume", {}, str(folder), scratch=str(folder), threads=1, device="cpu", **options)


def _config() -> TrainingConfig:
    return TrainingConfig(
        epochs=2,
        batch_size=overhead.BATCH,
        validation_split=0,
        checkpoint_every_epochs=0,
        checkpoint_every_minutes=0,
        keep_best=0,
    )


if __name__ == "__main__":
    main()
