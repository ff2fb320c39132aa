"""What a step costs beyond the same step in a bare PyTorch loop: `python -m tests.engine.overhead [steps]`.

Both loops take turns step by step in one thread, so that a busy machine slows both alike. CPU time of that thread.
The trainer's side includes its order and seeds, the schedule, metrics, the stop question and live messages as JSON.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from heimdall import TrainingConfig, TrainingRecipe
from heimdall.engine.control import StopRequests
from heimdall.engine.recipe_job import RecipeJob
from heimdall.trainer.protocol import Exit, TrainerSpec, encode

SAMPLES, BATCH, BLOCK = 6400, 32, 100
INPUTS, CLASSES = torch.randn(SAMPLES, 64), torch.randint(10, (SAMPLES,))


def build_model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


class Points:
    def __len__(self) -> int:
        return SAMPLES

    def sample(self, index: int, seed: int | None) -> Any:
        return INPUTS[index], CLASSES[index]


class Recipe(TrainingRecipe):
    def training_samples(self) -> Points:
        return Points()

    def model(self) -> nn.Module:
        return build_model()

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, classes = batch
        return nn.functional.cross_entropy(model(inputs), classes)


def bare_steps() -> Iterator[None]:
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    loader = DataLoader(TensorDataset(INPUTS, CLASSES), batch_size=BATCH, shuffle=True)
    while True:
        for inputs, classes in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), classes).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield


class TakingTurns(RecipeJob):
    """After each step of the trainer comes one of the bare loop."""

    def prepare(self, steps: int, requests: StopRequests) -> None:
        self.left, self.requests = steps, requests
        self.bare, self.ours, self.theirs = bare_steps(), [0.0], [0.0]
        next(self.bare)
        self.since = time.thread_time()

    def step_finished(self) -> None:
        super().step_finished()
        between = time.thread_time()
        next(self.bare)
        end = time.thread_time()
        self.ours.append(between - self.since)
        self.theirs.append(end - between)
        self.left -= 1
        if not self.left:
            self.requests.receive(Exit())
        self.since = time.thread_time()


def main() -> None:
    torch.set_num_threads(1)
    ours, theirs = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
    ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    mean = 1000 * statistics.median(theirs) / BLOCK
    print(f"{statistics.median(ratios):.4f} x [{low:.4f}, {high:.4f}] of a bare step of {mean:.3f} ms")


def measure(steps: int) -> tuple[list[float], list[float]]:
    """Seconds of each block of steps: the trainer's, and the bare loop's beside it."""
    config = TrainingConfig(
        epochs=1000,
        batch_size=BATCH,
        validation_split=0,
        checkpoint_every_epochs=0,
        checkpoint_every_minutes=0,
        keep_best=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        requests = StopRequests()
        spec = TrainerSpec("overhead", {}, folder, scratch=folder, threads=1, device="cpu")
        work = TakingTurns(spec, send=encode, requests=requests)
        work.start(Recipe(config, Path(folder)), "")
        work.prepare(steps, requests)
        work.train()
    return blocks(work.ours), blocks(work.theirs)


def blocks(seconds: list[float]) -> list[float]:
    """Sums over blocks of steps, without the first block, in which both warm up."""
    return [sum(seconds[start : start + BLOCK]) for start in range(BLOCK, len(seconds) - BLOCK, BLOCK)]


if __name__ == "__main__":
    main()
