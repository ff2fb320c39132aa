"""A training whose disk is full: run by a test on a disk of one megabyte.

`python -m tests.faults.full_disk FOLDER` trains there while a balloon fills the disk, pauses, lets it go when
the pause has failed twice, and prints what the trainer told as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from heimdall.engine.recipe_job import load_recipe
from heimdall.trainer.protocol import encode
from tests.engine.attempts import Stop, config_of, spec_of
from tests.engine.stopping import StoppingJob


class OnAFullDisk(StoppingJob):
    def __init__(self, spec, stop, balloon: Path):
        self.balloon, self.failed_pauses = balloon, 0
        super().__init__(spec, stop)

    def answer(self, message):
        super().answer(message)
        if message.kind == "checkpoint_failed" and "pause" in message.kinds:
            self.failed_pauses += 1
            if self.failed_pauses == 2:
                self.balloon.unlink()


def fill(balloon: Path) -> None:
    with contextlib.suppress(OSError), open(balloon, "wb", buffering=0) as file:
        while True:
            if not file.write(bytes(4096)):
                break


def main() -> None:
    import torch

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    balloon = folder / "balloon"
    fill(balloon)
    # epoch 1 has a periodic checkpoint, which fails; the pause comes in epoch 2
    spec = spec_of(folder, config_of(epochs=3), scratch="/tmp")
    work = OnAFullDisk(spec, Stop(at_epoch=2), balloon)
    work.start(*load_recipe(spec))
    work.train()
    json.dump(
        {
            "messages": [encode(message).decode() for message in work.told.messages],
            "files": sorted(os.listdir(folder)),
        },
        sys.stdout,
    )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
