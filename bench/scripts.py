"""An attached script beside the same one that is not: `python -m bench.scripts loop|transformers|lightning`.

The loops take turns step by step in one thread; a framework's loop cannot be stopped between two steps, so whole
turns of it with and without `heimdall.attach` come in ABBA order, and each is timed from its own steps. CPU time of
that thread.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.figure import bounds_of_median
from heimdall import attach
from heimdall.attached.attach import supervise
from heimdall.attached.script import Supervised
from heimdall.engine.control import StopRequests
from heimdall.trainer.protocol import TrainerSpec, encode
from tests.engine.overhead import BATCH, CLASSES, INPUTS, blocks

WIDTHS = {"1 ms": 400, "4 ms": 1200}
WORKERS = (0, 2)
WARM_UP = 20  # steps of a turn before its time counts
TURNS = 8


def main(who: str, steps: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if who == "loop":
            return {
                f"{name}, {workers} workers": loops(width, workers, steps, folder)
                for name, width in WIDTHS.items()
                for workers in WORKERS
            }
        return turns({"transformers": transformers, "lightning": lightning}[who](folder, steps))


def supervised(folder: str) -> None:
    """From here on, what attaches itself is supervised, by a session that sends to nobody.

    Checkpoints have groups of their own."""
    config = {"checkpoint_every_epochs": 0, "checkpoint_every_minutes": 0}
    spec = TrainerSpec("", config, folder, scratch=folder)
    supervise(Supervised(spec, send=encode, requests=StopRequests()))


def model_of(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


# A loop of one's own


def loops(width: int, workers: int, steps: int, folder: str) -> dict[str, Any]:
    supervised(folder)
    sides = (steps_of(width, workers, is_attached=True), steps_of(width, workers, is_attached=False))
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(steps):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.thread_time()
            next(sides[which])
            times[which].append(time.thread_time() - start)
    ours, theirs = (blocks(each) for each in times)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "bounds": bounds_of_median(ratios),
        "bare_ms": 1000 * statistics.median(times[1]),
        "more_us": 1e6 * (statistics.median(times[0]) - statistics.median(times[1])),
    }


def steps_of(width: int, workers: int, *, is_attached: bool) -> Iterator[None]:
    model = model_of(width)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    data = TensorDataset(INPUTS, CLASSES)
    loader: Any = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    job = attach(model=model, optimizer=optimizer) if is_attached else None
    while True:
        for inputs, classes in job.batches(loader) if job else loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), classes).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield


# A framework's


def turns(turn: Callable[[bool], list[float]]) -> dict[str, Any]:
    medians: dict[bool, list[float]] = {True: [], False: []}
    for number in range(TURNS):
        for is_attached in (True, False) if number % 2 else (False, True):
            seconds = [after - before for before, after in pairwise(turn(is_attached))]
            medians[is_attached].append(statistics.median(seconds[WARM_UP:]))
    ratios = [ours / theirs for ours, theirs in zip(medians[True], medians[False], strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "bounds": bounds_of_median(ratios),
        "bare_ms": 1000 * statistics.median(medians[False]),
        "more_us": 1e6 * (statistics.median(medians[True]) - statistics.median(medians[False])),
    }


def transformers(folder: str, steps: int) -> Callable[[bool], list[float]]:
    """Both turns have one callback more, which takes the times."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model_of(WIDTHS["1 ms"])

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": nn.functional.cross_entropy(self.model(inputs), labels)}

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.times.append(time.thread_time())

    rows = [{"inputs": one, "labels": other} for one, other in zip(INPUTS, CLASSES, strict=True)]
    arguments = TrainingArguments(
        output_dir=folder, max_steps=steps, per_device_train_batch_size=BATCH, save_strategy="no",
        logging_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
    )  # fmt: skip

    def turn(is_attached: bool) -> list[float]:
        clock = Clock()
        trainer = Trainer(model=Model(), args=arguments, train_dataset=rows, callbacks=[clock])
        if is_attached:
            supervised(folder)
            trainer = attach(trainer)
        trainer.train()
        return clock.times

    return turn


def lightning(folder: str, steps: int) -> Callable[[bool], list[float]]:
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model_of(WIDTHS["1 ms"])

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            inputs, classes = batch
            return nn.functional.cross_entropy(self.model(inputs), classes)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 1e-3)

    class LightningClock(L.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_batch_start(self, *_: Any) -> None:
            self.times.append(time.thread_time())

    def turn(is_attached: bool) -> list[float]:
        clock = LightningClock()
        trainer = L.Trainer(
            max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[clock],
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        if is_attached:
            supervised(folder)
            trainer = attach(trainer)
        trainer.fit(Module(), DataLoader(TensorDataset(INPUTS, CLASSES), batch_size=BATCH, shuffle=True))
        return clock.times

    return turn


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
