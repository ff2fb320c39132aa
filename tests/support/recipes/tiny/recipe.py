"""y = sum(x) with noise that is drawn anew at each epoch, and dropout: every generator matters."""

import time

import torch
from torch import nn

from heimdall import TrainingRecipe


class Points:
    def __init__(self, size: int):
        self.inputs = torch.randn(size, 8, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.inputs)

    def sample(self, index: int, seed: int | None):
        clean = self.inputs[index]
        if seed is None:
            return clean, clean.sum()
        noise = torch.randn(8, generator=torch.Generator().manual_seed(seed))
        return clean + 0.1 * noise, clean.sum()


class Recipe(TrainingRecipe):
    def training_samples(self) -> Points:
        return Points(self.config.samples)

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

    def loss(self, model: nn.Module, batch) -> torch.Tensor:
        if self.config.step_seconds and model.training:
            time.sleep(self.config.step_seconds)
        inputs, targets = batch
        return nn.functional.mse_loss(model(inputs).squeeze(-1), targets)
