"""A diffusion model of points in a plane, with an average of its weights (EMA) that is what one samples from."""

import argparse

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

import heimdall

parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=0, help="processes that load data")
workers = parser.parse_args().workers

torch.manual_seed(4)
angle = torch.rand(512) * 6.28
points = torch.stack([angle.cos(), angle.sin()], 1)
noise_level = torch.linspace(0.05, 1.0, 20)
model = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=50)

job = heimdall.attach(model=model, average=average, optimizer=optimizer, warmup=warmup)
for _ in job.epochs(5):
    for (clean,) in job.batches(DataLoader(TensorDataset(points), 32, shuffle=True, num_workers=workers)):
        level = noise_level[torch.randint(20, (len(clean), 1))]
        noise = torch.randn_like(clean)
        predicted = model(torch.cat([clean + level * noise, level], 1))
        loss = nn.functional.mse_loss(predicted, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warmup.step()
        average.update_parameters(model)
        job.log(loss=loss)
