"""Two networks against each other, two optimizers, two loaders at once: a GAN learns a line of points."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import heimdall

parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=0, help="processes that load data")
workers = parser.parse_args().workers

torch.manual_seed(2)
points = torch.linspace(-1, 1, 256).unsqueeze(1) * torch.tensor([[1.0, 0.5]])
generator = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2), nn.Linear(16, 2))
critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(16, 1))
of_generator = torch.optim.Adam(generator.parameters(), 1e-3, betas=(0.5, 0.9))
of_critic = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.9))
options = {"batch_size": 32, "shuffle": True, "drop_last": True, "num_workers": workers}
real = DataLoader(TensorDataset(points), **options)
other = DataLoader(TensorDataset(points.flip(0)), **options)

job = heimdall.attach(generator=generator, critic=critic, of_generator=of_generator, of_critic=of_critic)
judge = nn.functional.binary_cross_entropy_with_logits
for _ in job.epochs(6):
    for (truth,), (second,) in zip(job.batches(real), job.batches(other), strict=False):
        made = generator(torch.randn(32, 4))
        seen = torch.cat([critic(truth), critic(second), critic(made.detach())])
        wanted = torch.cat([torch.ones(64, 1), torch.zeros(32, 1)])
        loss = judge(seen, wanted)
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
        fooled = judge(critic(made), torch.ones(32, 1))
        of_generator.zero_grad()
        fooled.backward()
        of_generator.step()
        job.log(critic=loss, generator=fooled)
