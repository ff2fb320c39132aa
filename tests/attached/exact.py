"""Stop or kill the examples at random steps, resume them in new processes, and compare: `make exact PROGRAMS=all`.

Prints the seed, a line for each training, and a verdict; exit code 1 if anything differed.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.attached.scripts import CASES, FRAMEWORKS, Attempts, attempts_of, difference_of, draw_stops, warm

MOST_STOPS = 4  # of one training


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", default="all", help=f"all, or some of: {', '.join(examples())}")
    parser.add_argument("--count", type=int, default=20, help="interruptions in all")
    parser.add_argument("--seed", type=int, default=None, help="of the places; random unless given")
    options = parser.parse_args()
    wanted = examples() if options.programs == "all" else options.programs.split(",")
    if unknown := set(wanted) - set(examples()):
        parser.error(f"no example is called {', '.join(sorted(unknown))}; there are {', '.join(examples())}")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="heimdall-exact-") as folder, warm(*FRAMEWORKS) as launcher:
        cases = [name for name, (example, _, _) in CASES.items() if example in wanted]
        known = {name: attempts_of(name, Path(folder), launcher) for name in cases}
        wrong = interrupt(known, options.count, random.Random(seed))
    print(f"{options.count} interruptions: {wrong or 'no'} training differs")
    return 1 if wrong else 0


def examples() -> list[str]:
    return sorted({example for example, _, _ in CASES.values()})


def interrupt(known: dict[str, Attempts], count: int, draw: random.Random) -> int:
    """Until so many interruptions were made, each training with some of them. Returns how many differed."""
    wrong = 0
    while count > 0:
        name = draw.choice(list(known))
        attempts = known[name]
        stops = draw_stops(attempts.straight, min(count, MOST_STOPS, draw.randint(1, MOST_STOPS)), draw)
        is_killed = len(stops) == 1 and draw.random() < 0.5
        other = attempts.killed(after_step=stops[0]) if is_killed else attempts.stopped(*stops)
        found = difference_of(attempts.straight, other)
        how = "killed" if is_killed else "stopped"
        print(f"{name}: {how} after step {', '.join(map(str, stops))}: {found or 'the same'}", flush=True)
        wrong += bool(found)
        count -= len(stops)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
