"""No DataLoader: an agent plays, then learns from what it played in several passes, as PPO does."""

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import heimdall

torch.manual_seed(3)
rng = np.random.default_rng(3)  # the world's own generator: a part like any other
policy = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
job = heimdall.attach(policy=policy, optimizer=optimizer, config={"updates": 20})
world = job.values(place=[0.0, 0.0])
job.keep(world_rng=rng)


def play(steps: int):
    seen, done, gained, place = [], [], [], np.array(world.place)
    for _ in range(steps):
        state = torch.tensor(place, dtype=torch.float32)
        action = Categorical(logits=policy(state)).sample()
        place = np.clip(place + np.array([action.item() - 1, rng.normal(0, 0.1)]), -3, 3)
        seen.append(state)
        done.append(action)
        gained.append(-abs(place[0] - 1.0))
    world.place = place.tolist()
    return torch.stack(seen), torch.stack(done), torch.tensor(gained, dtype=torch.float32)


for _ in job.batches(range(job.config.updates)):
    with torch.no_grad():
        states, actions, rewards = play(64)
        before = Categorical(logits=policy(states)).log_prob(actions)
    advantage = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
    for _ in range(4):
        ratio = (Categorical(logits=policy(states)).log_prob(actions) - before).exp()
        loss = -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    job.log(loss=loss, reward=rewards.mean())
