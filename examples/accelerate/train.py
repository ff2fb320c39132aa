"""Accelerate: it prepares model, optimizer and loader as ever, and the loop asks the job for its batches."""

import argparse
import random

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset

import heimdall


class Noisy(Dataset):
    """Samples with noise that is drawn anew each time."""

    def __len__(self) -> int:
        return 90

    def __getitem__(self, index: int):
        x = torch.full((4,), index / 90)
        return x + 0.1 * random.random() * torch.randn(4), x.sum().reshape(1)


parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=0, help="processes that load data")
workers = parser.parse_args().workers

random.seed(7)
torch.manual_seed(7)
accelerator = Accelerator(gradient_accumulation_steps=2)
model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
loader = DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=workers)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

job = heimdall.attach(model=model, optimizer=optimizer)
for _ in job.epochs(4):
    for x, y in job.batches(loader):
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        job.log(loss=loss)
