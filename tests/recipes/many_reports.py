"""`make locate LINES=100000`: how long a file of so many reports takes to be read and located, and at what memory."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from heimdall import codec
from heimdall.recipes import registry
from heimdall.recipes.localization import evaluate
from heimdall.recipes.localization.locating import reports
from heimdall.recipes.localization.locating.locator import Locator
from tests.recipes.in_process import train
from tests.support.radio_reports import ITALY, lines, table

SMALL = {
    "samples": 3000, "epochs": 2, "batch_size": 128, "learning_rate": 0.004, "checkpoint_every_minutes": 0.0,
    "device": "cpu",
}  # fmt: skip
EACH = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    given = parser.parse_args()
    evaluate.use_threads(1)
    with tempfile.TemporaryDirectory() as place:
        trained = _trained(Path(place))
    raw = _file(given.lines)
    began = time.monotonic()
    sent = reports.read(raw, trained.settings)
    read_at = time.monotonic()
    first = 0.0
    for number, _ in enumerate(Locator(trained).locate(sent)):
        first = first or time.monotonic() - read_at
        count = number + 1
    seconds = time.monotonic() - read_at
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{given.lines} lines ({len(raw) / 1e6:.1f} MB) read in {read_at - began:.1f} s; first answers after "
        f"{first:.1f} s, {count} transmissions located in {seconds:.1f} s; {peak:.0f} MB at most."
    )


def _file(count: int) -> bytes:
    """Five receivers hear each station; stations stand along a line, so no two transmissions are alike."""
    receivers = list(ITALY.values())[:EACH]
    return table(
        *(
            lines(f"t{number}", (44.6 + 0.6 * number / (count // EACH), 8.3, 205.0), receivers)
            for number in range(count // EACH)
        )
    )


def _trained(folder: Path) -> evaluate.Trained:
    run = train("localization", SMALL, folder)
    about = {"recipe": evaluate.PACKAGE, "config": registry.validate("localization", SMALL), "epoch": 2}
    codec.save(folder / "trained.safetensors", run.parts, about)
    return evaluate.open_checkpoint(folder / "trained.safetensors")


if __name__ == "__main__":
    main()
