"""No torch at all: k-means with numpy, which saves itself to a file and goes on from there: a command."""

import argparse
import json
import os
import signal
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=200)
parser.add_argument("--resume", action="store_true")
options = parser.parse_args()
state = Path("checkpoints/state.json")
state.parent.mkdir(exist_ok=True)

rng = np.random.default_rng(6)
points = rng.normal(size=(3000, 8)) + rng.integers(0, 4, (3000, 1))
centres, begin = points[:4].copy(), 0
if options.resume and state.exists():
    saved = json.loads(state.read_text())
    centres, begin = np.array(saved["centres"]), saved["round"]

is_asked_to_leave = []
signal.signal(signal.SIGTERM, lambda *_: is_asked_to_leave.append(True))
for number in range(begin, options.rounds):
    nearest = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
    centres = np.array(
        [points[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in range(4)]
    )
    inertia = ((points - centres[nearest]) ** 2).sum()
    print(f"step={number + 1} inertia={inertia:.6f}", flush=True)
    if is_asked_to_leave:
        aside = state.with_suffix(".part")
        aside.write_text(json.dumps({"centres": centres.tolist(), "round": number + 1}))
        os.replace(aside, state)
        raise SystemExit(0)
