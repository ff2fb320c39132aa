"""Attempts of a training that stop at a given place, here or in a process of their own.

`python -m tests.engine.attempts` reads a list of attempts from stdin and writes what happened in each to stdout.
"""

import faulthandler
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heimdall.trainer.protocol import FromTrainer, StagedCheckpoint, TrainerSpec, decode, encode

ROOT = Path(__file__).parents[2]
PACKAGE = "tests.engine.tiny"
LONGEST_SECONDS = 120


@dataclass(frozen=True)
class Stop:
    """Ask for a stop after a step, in the validation of an epoch, or for the end of an epoch (all from 1)."""

    after_step: int = 0
    in_validation: int = 0
    at_epoch: int = 0


@dataclass
class Told:
    """What an attempt told its supervisor."""

    messages: list[Any] = field(default_factory=list)

    def of(self, kind: str) -> list[Any]:
        return [message for message in self.messages if message.kind == kind]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for message in self.of("steps") for row in message.rows]

    @property
    def last_staged(self) -> StagedCheckpoint:
        last: StagedCheckpoint = self.of("staged")[-1]
        return last

    @property
    def end(self) -> str:
        return str(self.messages[-1].kind)


def config_of(**fields: Any) -> dict[str, Any]:
    from tests.engine.tiny.config import Config

    return Config(**fields).model_dump(mode="json")


def spec_of(folder: Path, config: dict[str, Any], **fields: Any) -> TrainerSpec:
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "package": PACKAGE,
        "staging": str(folder),
        "scratch": str(folder),
        "threads": 1,
        "device": "cpu",
    }
    return TrainerSpec(config=config, **(given | fields))


def resumed_from(staged: StagedCheckpoint) -> dict[str, Any]:
    """The fields of a spec that goes on from a staged checkpoint."""
    return {
        "checkpoint": staged.path,
        "expected": {name: getattr(staged, name) for name in ("step", "epoch", "digest")},
    }


def attempt(spec: Any, stop: Stop | None = None) -> Told:
    """Train in this process until the stop or the end."""
    from heimdall.engine.recipe_job import load_recipe
    from tests.engine.stopping import StoppingJob

    work = StoppingJob(spec, stop or Stop())
    work.start(*load_recipe(spec))
    work.train()
    return work.told


def in_a_new_process(attempts: list[tuple[Any, Stop | None]]) -> list[Told]:
    """Make these attempts, one after the other, in a process that has seen nothing before."""
    asked = [
        {"spec": encode(spec).decode(), "stop": vars(stop) if stop is not None else None}
        for spec, stop in attempts
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.engine.attempts"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        timeout=LONGEST_SECONDS,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"the attempts failed:\n{done.stderr}")
    told = json.loads(done.stdout)
    return [Told([decode(line.encode(), FromTrainer) for line in lines]) for lines in told]


def main() -> None:
    faulthandler.dump_traceback_later(LONGEST_SECONDS - 10, exit=True)
    told = [
        attempt(decode(asked["spec"].encode(), TrainerSpec), Stop(**asked["stop"]) if asked["stop"] else None)
        for asked in json.load(sys.stdin)
    ]
    json.dump([[encode(message).decode() for message in each.messages] for each in told], sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
