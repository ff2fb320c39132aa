"""A loop of one's own: a small network learns a sum. Alone: `python train.py`; the results are the same bits."""

import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import heimdall


class Noisy(Dataset):
    """Samples with noise that is drawn anew each time, as augmentation is."""

    def __init__(self, size: int, noise: float) -> None:
        self.inputs = torch.randn(size, 8, generator=torch.Generator().manual_seed(5))
        self.noise = noise

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int):
        x = self.inputs[index]
        return x + self.noise * random.random() * torch.randn(8), x.sum().reshape(1)


random.seed(1)
torch.manual_seed(1)
model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)

job = heimdall.attach(
    model=model,
    optimizer=optimizer,
    scheduler=scheduler,
    config={"epochs": 4, "workers": 0, "accumulation": 2},
)
training = DataLoader(Noisy(200, 0.1), batch_size=8, shuffle=True, num_workers=job.config.workers)
validation = DataLoader(Noisy(64, 0.0), batch_size=16, shuffle=True)
best = job.values(loss=9e9)

for epoch in job.epochs(job.config.epochs):
    model.train()
    for x, y in job.batches(training):
        loss = nn.functional.mse_loss(model(x), y)
        (loss / job.config.accumulation).backward()
        if (job.batch + 1) % job.config.accumulation == 0 or job.is_last_batch:
            optimizer.step()
            optimizer.zero_grad()
        job.log(loss=loss)
    scheduler.step()
    model.eval()
    with torch.no_grad():
        losses = [nn.functional.mse_loss(model(x), y).item() for x, y in job.validation(validation)]
    best.loss = min(best.loss, sum(losses) / len(losses))
    job.log(val_loss=sum(losses) / len(losses))
    print(f"epoch {epoch}: {losses[-1]:.4f}, best {best.loss:.4f}")
