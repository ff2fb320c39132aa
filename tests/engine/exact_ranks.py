"""Trainings of several ranks, stopped at random steps and by the death of a random rank: `python -m
tests.engine.exact_ranks --ranks 4 --count 50`.

Each is resumed in new processes and compared with an undisturbed one: everything that each rank holds, every step and
every epoch. Prints the seed, a line for each training, and a verdict; exit code 1 if anything differed.
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from heimdall.trainer.launch import Launcher
from heimdall.trainer.warm import WarmLauncher
from tests.engine.rank_attempts import RankAttempt, differences, resumed, travel

ROOT = Path(__file__).parents[2]
STEPS = 12  # 4 epochs of 3
MOST_OF_ONE = 4  # interruptions
KILLED = -1
BASE = {
    "batch_size": 12,
    "samples": 56,
    "validation_samples": 7,
    "epochs": 4,
    "grad_accumulation": 2,
    "ema_decay": 0.9,
    "warmup_epochs": 1,
    "early_stop_patience": 9,
    "try_resume": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "fp32": BASE,
    "bf16": BASE | {"precision": "bf16"},
    "fp16": BASE | {"precision": "fp16", "overflows": True, "optimizer": "adam"},
    "fsdp": BASE | {"strategy": "fsdp", "ema_decay": 0.0},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--count", type=int, default=20, help="interruptions in all")
    parser.add_argument("--seed", type=int, default=None, help="of the places; random unless given")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    os.environ["PYTHONPATH"] = str(ROOT)  # these modules, in a trainer
    draw, launcher, left, wrong, trainings = random.Random(seed), WarmLauncher(), options.count, 0, 0
    with tempfile.TemporaryDirectory(prefix="heimdall-exact-") as folder:
        undisturbed = {
            name: travel(launcher, Path(folder) / name, _of(config, options.ranks, draw), options.ranks, [])
            for name, config in CONFIGS.items()
        }
        while left > 0:
            trainings += 1
            name = draw.choice(list(CONFIGS))
            stops = _random_stops(min(left, MOST_OF_ONE), draw)
            config = _of(CONFIGS[name], options.ranks, draw)
            place = Path(folder) / f"{trainings}"
            disturbed = _travel(launcher, place, config, options.ranks, stops, draw)
            found = differences(disturbed, undisturbed[name], options.ranks)
            shown = ", ".join("a rank killed" if stop == KILLED else f"step {stop}" for stop in stops)
            print(f"{trainings} {name:5} {'; '.join(found) or 'equal'}  ({shown})", flush=True)
            wrong += bool(found)
            left -= len(stops)
    launcher.close()
    print(
        f"{options.count} interruptions in {trainings} trainings of {options.ranks} ranks: {wrong or 'no'} differ"
    )
    return 1 if wrong else 0


def _of(config: dict[str, Any], ranks: int, draw: random.Random) -> dict[str, Any]:
    return config | {"devices": ranks, "num_workers": draw.choice([0, 0, 2])}


def _random_stops(count: int, draw: random.Random) -> list[int]:
    steps = sorted(draw.sample(range(1, STEPS), count))
    return [KILLED if draw.random() < 0.3 else step for step in steps]


def _travel(
    launcher: Launcher,
    folder: Path,
    config: dict[str, Any],
    ranks: int,
    stops: list[int],
    draw: random.Random,
) -> tuple[list[Any], Path]:
    told: list[Any] = []
    start: dict[str, Any] = {}
    for number, stop in enumerate([*stops, None]):
        until = None if stop in (KILLED, None) else stop
        at = start.get("expected", {}).get("step", 0)
        if until is not None and until <= at:
            continue
        changed = config | ({"checkpoint_every_minutes": 1e-9} if stop == KILLED else {})
        attempt = RankAttempt(launcher, folder / str(number), changed, ranks, until_step=until, **start)
        killed: list[int] = []

        def kill(message: Any, attempt: RankAttempt = attempt, killed: list[int] = killed) -> None:
            if message.kind == "staged" and not killed and message.kinds != ("final",):
                killed.append(draw.randrange(ranks))
                attempt.kill_rank(killed[0])

        found = attempt.run(watch=kill if stop == KILLED else lambda message: None)
        if found.of("failed"):
            raise RuntimeError(found.of("failed")[0].error)
        if found.of("staged"):
            start = resumed(found)
            _forget_beyond(found, start["expected"]["step"])
            told.append(found)
    return told, folder / str(len(stops))


def _forget_beyond(told: Any, step: int) -> None:
    """Steps that are made again count once, as they do for a server."""
    for message in told.of("steps"):
        message.rows[:] = [row for row in message.rows if row["step"] <= step]
    epochs = [each for each in told.of("epoch") if each.step > step]
    told.messages[:] = [each for each in told.messages if each not in epochs]


if __name__ == "__main__":
    sys.exit(main())
