"""Stop trainings at random places, resume them in new processes, and compare: `python -m tests.engine.exact`.

Prints the seed, a line for each training, and a verdict; exit code 1 if anything differed.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.engine.attempts import Stop
from tests.engine.journeys import BF16, FP16, Journey, differences, travel

EPOCHS, STEPS_PER_EPOCH = 4, 3
CYCLES = 4
BASES = {
    "bf16": BF16,
    "fp16": FP16,
    "fp32": BF16 | {"precision": "fp32", "ema_decay": 0.0, "optimizer": "sgd"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="interruptions in all")
    parser.add_argument("--seed", type=int, default=None, help="of the places; random unless given")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    journeys = random_journeys(options.count, random.Random(seed))
    with tempfile.TemporaryDirectory(prefix="heimdall-exact-") as folder:
        found = travel(journeys, Path(folder), device=options.device)
        wrong = sum(report(name, journeys[name], found[name]) for name in journeys)
    made = sum(len(journey.stops) for journey in journeys.values())
    print(f"{made} interruptions in {len(journeys)} trainings: {wrong or 'no'} training differs")
    return 1 if wrong else 0


def random_journeys(count: int, draw: random.Random) -> dict[str, Journey]:
    """Trainings with up to four interruptions each, at random steps, epochs' ends and validations."""
    journeys = {}
    while count > 0:
        precision = draw.choice(list(BASES))
        stops = random_stops(min(count, CYCLES), draw)
        changes = {
            "num_workers": draw.choice([0, 0, 1, 2]),
            "checkpoint_every_minutes": draw.choice([0.0, 1e-9]),
        }
        journeys[f"{len(journeys) + 1} {precision}"] = Journey(BASES[precision], stops, changes)
        count -= len(stops)
    return journeys


def random_stops(count: int, draw: random.Random) -> tuple[Stop, ...]:
    """Stops in the order in which a training passes them. A place is (step, what is still to come there)."""
    places: dict[tuple[int, int], Stop] = {}
    for step in range(1, EPOCHS * STEPS_PER_EPOCH + 1):
        places[step, 0] = Stop(after_step=step)
        if step % STEPS_PER_EPOCH == 0:
            places[step, 1] = Stop(in_validation=step // STEPS_PER_EPOCH)
            if step < EPOCHS * STEPS_PER_EPOCH:
                places[step, 2] = Stop(at_epoch=step // STEPS_PER_EPOCH)
    return tuple(places[place] for place in sorted(draw.sample(sorted(places), count)))


def report(name: str, journey: Journey, travelled: Any) -> bool:
    found = differences(travelled)
    digest = travelled.attempts[-1].last_staged.digest[:16]
    stops = ", ".join(described(stop) for stop in journey.stops)
    print(f"{name:8} {digest}  {'; '.join(found) or 'equal'}  ({stops}; {dict(journey.changes or {})})")
    return bool(found)


def described(stop: Stop) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in vars(stop).items() if value)


if __name__ == "__main__":
    sys.exit(main())
