"""A step of a loop beside one of a bare PyTorch loop: `python -m bench.loops heimdall|lightning|transformers`.

Ours and the bare loop take turns step by step in one thread (tests/engine/overhead.py). A peer's loop cannot be
stopped between two steps, so runs of it and of the bare loop take turns in ABBA order.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.figure import bounds_of_median
from tests.engine import overhead

STEPS = 200  # of one turn of a peer
TURNS = 6


def main(who: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    if who == "heimdall":
        return heimdall()
    if importlib.util.find_spec(who) is None or (
        who == "transformers" and not importlib.util.find_spec("accelerate")
    ):
        return {"missing": "not installed (requirements-dev.txt)"}
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        return peer({"lightning": lightning, "transformers": transformers}[who](folder))


def heimdall() -> dict[str, Any]:
    ours, theirs = overhead.measure(6000)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "bounds": bounds_of_median(ratios),
        "bare_ms": 1000 * statistics.median(theirs) / overhead.BLOCK,
    }


def peer(turn: Callable[[], Any]) -> dict[str, Any]:
    bare = overhead.bare_steps()
    ratios = []
    turn()
    for number in range(TURNS):
        order = (0, 1) if number % 2 else (1, 0)
        times = {}
        for which in order:
            start = time.thread_time()
            turn() if which else list(islice(bare, STEPS))
            times[which] = time.thread_time() - start
        ratios.append(times[1] / times[0])
    return {"ratio": statistics.median(ratios)}


def lightning(folder: str) -> Callable[[], Any]:
    """Stripped of everything that can be switched off."""
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = overhead.build_model()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            inputs, classes = batch
            return nn.functional.cross_entropy(self.model(inputs), classes)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 1e-3, weight_decay=0.01)

    module = Module()

    def turn() -> None:
        trainer = L.Trainer(
            max_steps=STEPS, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, _loader())

    return turn


def transformers(folder: str) -> Callable[[], Any]:
    from transformers import Trainer, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = overhead.build_model()

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": nn.functional.cross_entropy(self.model(inputs), labels)}

    rows = [
        {"inputs": one, "labels": other} for one, other in zip(overhead.INPUTS, overhead.CLASSES, strict=True)
    ]
    arguments = TrainingArguments(
        output_dir=folder, max_steps=STEPS, per_device_train_batch_size=overhead.BATCH, learning_rate=1e-3,
        weight_decay=0.01, max_grad_norm=1.0, save_strategy="no", logging_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=True, lr_scheduler_type="constant",
    )  # fmt: skip
    model = Model()
    return lambda: Trainer(model=model, args=arguments, train_dataset=rows).train()


def _loader() -> DataLoader:
    data = TensorDataset(overhead.INPUTS, overhead.CLASSES)
    return DataLoader(data, batch_size=overhead.BATCH, shuffle=True)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
