"""A Lightning Trainer: a small network, gradients gathered over two batches, early stopping. One line is ours."""

import argparse
import random

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, Dataset

import heimdall


class Noisy(Dataset):
    """Samples with noise that is drawn anew each time."""

    def __init__(self, size: int, noise: float) -> None:
        self.inputs = torch.randn(size, 4, generator=torch.Generator().manual_seed(size))
        self.noise = noise

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int):
        x = self.inputs[index]
        return x + self.noise * random.random() * torch.randn(4), x.sum().reshape(1)


class Sum(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def training_step(self, batch, number):
        x, y = batch
        return nn.functional.mse_loss(self.layers(x), y)

    def validation_step(self, batch, number):
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self.layers(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 1e-2)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2)}


parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=0, help="processes that load data")
workers = parser.parse_args().workers

lightning.seed_everything(3, verbose=False)
trainer = lightning.Trainer(
    max_epochs=4,
    accumulate_grad_batches=2,
    callbacks=[EarlyStopping("val_loss", patience=3)],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer = heimdall.attach(trainer)
training = DataLoader(Noisy(100, 0.1), batch_size=8, shuffle=True, num_workers=workers)
trainer.fit(Sum(), training, DataLoader(Noisy(33, 0.0), batch_size=8))
