"""What hashing the state between checkpoints takes of a training's time: `python -m bench.hashing SECONDS`.

The state is hashed as often as the trainer allows itself to, which is bounded by its cost and by nothing else here.
CPU time of every thread that has to do with it, beside the wall clock of the loop.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from heimdall import TrainingConfig
from heimdall.engine.control import StopRequests
from heimdall.engine.recipe_job import RecipeJob
from heimdall.engine.snapshot import Stager, Ticket
from heimdall.trainer.protocol import Exit, FromTrainer, StateHashed, TrainerSpec, encode
from tests.engine.overhead import BATCH, Recipe

AS_OFTEN_AS_ALLOWED = 0.001


class Timed(RecipeJob):
    """Adds up what is spent on the training's thread and on the one that hashes."""

    def prepare(self, seconds: float, requests: StopRequests) -> None:
        self.spent, self.requests = [0.0], requests
        self.ends_at = time.monotonic() + seconds
        stager: Stager = self.session._stager
        hash_state, write_one = self.session._hash_state, stager._write_one

        def timed(work: Any, *arguments: Any) -> None:
            start = time.thread_time()
            work(*arguments)
            self.spent.append(time.thread_time() - start)

        def write(ticket: Ticket) -> None:
            timed(write_one, ticket)

        self.session._hash_state = lambda: timed(hash_state)  # type: ignore[method-assign]
        stager._write_one = write  # type: ignore[method-assign]

    def step_finished(self) -> None:
        super().step_finished()
        if time.monotonic() >= self.ends_at:
            self.requests.receive(Exit())


def main(seconds: float) -> dict[str, float]:
    torch.set_num_threads(1)
    config = TrainingConfig(
        epochs=100_000, batch_size=BATCH, validation_split=0, checkpoint_every_epochs=0, checkpoint_every_minutes=0,
        keep_best=0,
    )  # fmt: skip
    count = 0

    def send(message: FromTrainer) -> None:
        nonlocal count
        encode(message)
        count += isinstance(message, StateHashed)

    with tempfile.TemporaryDirectory() as folder:
        requests = StopRequests()
        spec = TrainerSpec(
            "hashing", {}, folder, scratch=folder, threads=1, device="cpu", hash_seconds=AS_OFTEN_AS_ALLOWED
        )
        work = Timed(spec, send=send, requests=requests)
        work.start(Recipe(config, Path(folder)), "")
        work.prepare(seconds, requests)
        began = time.monotonic()
        work.train()
        lasted = time.monotonic() - began
    spent = sum(work.spent)
    return {
        "percent": 100 * spent / lasted,
        "count": count,
        "seconds": lasted,
        "each_ms": 1000 * spent / max(count, 1),
    }


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]))))
