import hashlib
import random
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from heimdall import Evaluation, TrainingRecipe

SIDE, CLASSES = 6, 5
ACCESSES: Counter[str] = Counter()
"""How often this process asked for a training or validation sample (with 0 loader workers)."""


class Images:
    """Noise images that hide their class; flipped and brightened by the seed."""

    def __init__(self, size: int, *, first: int, shift: float) -> None:
        generator = torch.Generator().manual_seed(1000 + first)
        self.classes = torch.randint(CLASSES, (size,), generator=generator)
        self.images = torch.randn(size, SIDE, SIDE, generator=generator) + shift
        for image, number in zip(self.images, self.classes, strict=True):
            image[int(number)] += 1.0

    def __len__(self) -> int:
        return len(self.classes)

    def sample(self, index: int, seed: int | None) -> dict[str, Any]:
        ACCESSES["training" if seed is not None else "validation"] += 1
        image = self.images[index]
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            image = image.flip(1) if torch.rand((), generator=generator) < 0.5 else image
            image = image + 0.3 * torch.randn(image.shape, generator=generator)
        return {"image": image, "class": self.classes[index], "index": index, "seed": seed or 0}


class Seen:
    """A part of the recipe's own: a digest over the samples in the order in which they were trained on."""

    def __init__(self) -> None:
        self.digest = ""
        self.samples = 0

    def add(self, indices: Tensor, seeds: Tensor) -> None:
        text = f"{self.digest} {indices.tolist()} {seeds.tolist()}"
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        self.samples += len(indices)

    def state_dict(self) -> dict[str, Any]:
        return {"digest": self.digest, "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.digest, self.samples = state["digest"], state["samples"]


class TinyEvaluation(Evaluation):
    """Draws random numbers on purpose, and makes epochs worse where the config wants that."""

    def update(self, model: nn.Module, batch: Any, samples: int) -> None:
        super().update(model, batch | {"image": batch["image"] + 0.01 * torch.randn(1)}, samples)

    def result(self) -> dict[str, float]:
        values = super().result()
        if self.recipe.config.worsens:
            values["val_loss"] = 1.0 + self.recipe.seen.samples
        return values | {"val_draw": random.random() + float(np.random.rand())}


class Recipe(TrainingRecipe):
    def training_samples(self) -> Images:
        return Images(self.config.samples, first=0, shift=self.config.shift)

    def validation_samples(self) -> Images | None:
        config = self.config
        return (
            Images(config.validation_samples, first=1, shift=config.shift)
            if config.validation_samples
            else None
        )

    def model(self) -> nn.Module:
        self.seen = Seen()
        self.steps = 0
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(SIDE * SIDE, 16),
            nn.BatchNorm1d(16) if self.config.norm == "batch" else nn.LayerNorm(16),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(16, CLASSES),
        )

    def evaluation(self) -> Evaluation:
        return TinyEvaluation(self)

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        images = batch["image"]
        factor = 1.0
        if model.training:
            self.seen.add(batch["index"], batch["seed"])
            images = images * (1 + 0.1 * random.random()) + 0.1 * float(np.random.rand())
            # In fp16 the scaled gradients overflow now and then.
            factor = 300.0 if self.config.overflows and random.random() < 0.2 else 1.0
            if (
                self.config.fail_at_step
                and self.seen.samples >= self.config.fail_at_step * self.config.batch_size
            ):
                raise ZeroDivisionError("the recipe fails on purpose")
        scores = model(images)
        loss = cross_entropy(scores.float(), batch["class"]) * factor
        return loss, {"accuracy": (scores.argmax(1) == batch["class"]).float().mean()}

    def parts(self) -> dict[str, Any]:
        return {"seen": self.seen} if self.config.counts_samples else {}
