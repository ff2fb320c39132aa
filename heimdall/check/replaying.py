"""A stretch of a training, trained again in a new process and compared: states by digest, steps by their values.

Where it differs, it is trained once more: what differs from itself was never going to be the same. No torch here:
files are compared by their headers, which name the SHA-256 of each tensor.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heimdall import codec
from heimdall.check.rehearsal import NotRehearsed, Rehearsal, Rehearsed
from heimdall.plain_json import with_nulls

EQUAL, DIFFERS, FAILED = "equal", "differs", "failed"
NO_TENSOR = "values that are no tensors"
_PINNED = {
    "device": "the kind of device",
    "device_name": "the device",
    "torch": "the build of torch",
    "threads": "the number of threads",
    "world_size": "the number of devices",
    "precision": "the precision",
    "python": "the version of Python",
}


@dataclass(frozen=True)
class Point:
    """A state on the way that was recorded when it was trained first."""

    link: int
    step: int
    epoch: int
    digest: str
    file: Path | None = None
    """Its checkpoint, where that is at hand: it says which tensor differs."""


@dataclass(frozen=True)
class Stretch:
    """From a state that is kept (None: from step 0) past one or more points, of which the last is its end."""

    start: Path | None
    step: int
    epoch: int
    digest: str
    points: Sequence[Point]
    rows: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Step -> the values that were recorded; steps that are not there are not compared."""
    epochs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What it was trained on first."""

    def begin(self) -> Rehearsed:
        where = {"digest": self.digest, "step": self.step, "epoch": self.epoch}
        return Rehearsed(checkpoint=self.start, environment=dict(self.environment), **where)  # type: ignore[arg-type]

    @property
    def spec_fields(self) -> dict[str, Any]:
        """What the trainer of it is told beside what the first one was told."""
        *between, last = self.points
        return {"hash_at": [[one.step, one.epoch] for one in between], "until_epoch": last.epoch}


@dataclass
class ReplayResult:
    outcome: str
    reason: str = ""
    """Where it differs: the likely cause. Where it failed: why."""
    found: list[str] = field(default_factory=list)
    """The digest at each point; empty where it did not come so far."""
    first_step: int | None = None
    first_value: str = ""
    first_tensor: str = ""
    steps_compared: int = 0
    environment: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def replay(rehearsal: Rehearsal, stretch: Stretch) -> ReplayResult:
    """Raises Interrupted where the rehearsal is."""
    began = time.monotonic()
    try:
        once = rehearsal.through([stretch.points[-1].step], start=stretch.begin())
    except NotRehearsed as error:
        return _not_trained(error)
    result = _compared(stretch, once)
    result.seconds = time.monotonic() - began
    if result.outcome == DIFFERS:
        result.reason = _cause(stretch, once, lambda: _again(rehearsal, stretch))
    return result


def _again(rehearsal: Rehearsal, stretch: Stretch) -> Rehearsed | None:
    try:
        return rehearsal.through([stretch.points[-1].step], start=stretch.begin())
    except NotRehearsed:
        return None


def _not_trained(error: NotRehearsed) -> ReplayResult:
    if error.failure == "data_changed":
        return ReplayResult(DIFFERS, f"The data are others than they were. {error}")
    if error.failure in ("does_not_fit", "unknown_recipe"):
        return ReplayResult(DIFFERS, f"The source is another than it was. {error}")
    return ReplayResult(FAILED, str(error))


def _compared(stretch: Stretch, once: Rehearsed) -> ReplayResult:
    found = digests_at(stretch.points, once)
    step, value, num_steps = first_other_value(stretch, once)
    are_equal = step is None and found == [point.digest for point in stretch.points]
    result = ReplayResult(EQUAL if are_equal else DIFFERS, found=found, steps_compared=num_steps)
    result.first_step, result.first_value = step, value
    result.environment = once.environment_found or once.environment
    last = stretch.points[-1]
    if found[-1] != last.digest and last.file is not None and once.checkpoint is not None:
        result.first_tensor = first_other_tensor(last.file, once.checkpoint)
    return result


def digests_at(points: Sequence[Point], once: Rehearsed) -> list[str]:
    hashed = {(one.step, one.epoch): one.digest for one in once.hashed}
    found = [hashed.get((point.step, point.epoch), "") for point in points[:-1]]
    last = points[-1]
    is_there = (once.step, once.epoch) == (last.step, last.epoch)
    return [*found, once.digest if is_there else ""]


def first_other_value(stretch: Stretch, once: Rehearsed) -> tuple[int | None, str, int]:
    """The first step whose values differ, the name of the value, and how many steps were compared."""
    num_steps = 0
    for row in once.rows:
        recorded = stretch.rows.get(row["step"])
        if recorded is None:
            continue
        num_steps += 1
        values = {name: value for name, value in row.items() if name not in ("step", "epoch")}
        if name := _first_other(recorded, values):
            return int(row["step"]), name, num_steps
    for epoch in once.epochs:
        values = {name: value for name, value in epoch.items() if name not in ("step", "epoch")}
        if name := _first_other(stretch.epochs.get(epoch["epoch"], values), values):
            return int(epoch["step"]), name, num_steps
    return None, "", num_steps


def first_other_tensor(recorded: Path, found: Path) -> str:
    """The first tensor, by name, in which two files differ."""
    try:
        one, other = codec.tensor_hashes(recorded), codec.tensor_hashes(found)
    except (codec.InvalidCheckpoint, OSError):
        return ""
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return names[0] if names else NO_TENSOR


def _first_other(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    found = with_nulls(dict(found))
    names = sorted(recorded.keys() | found.keys())
    return next((name for name in names if recorded.get(name) != found.get(name)), "")


def _cause(stretch: Stretch, once: Rehearsed, again: Any) -> str:
    """The likeliest one. What is named first explains all that would come after it."""
    then, now = stretch.environment, once.environment_found or once.environment
    if then.get("recipe_digest", "") != now.get("recipe_digest", ""):
        return "The source is another than it was when this was trained first."
    if then.get("data_fingerprint", "") != now.get("data_fingerprint", ""):
        return "The data are others than they were when this was trained first."
    twice = again()
    if twice is not None and digests_at(stretch.points, twice) != digests_at(stretch.points, once):
        return _chance(now)
    others = [
        f"{words} was {then[name]} and is now {now.get(name)}"
        for name, words in _PINNED.items()
        if name in then and then[name] != now.get(name)
    ]
    if others:
        return f"It was trained on something else: {'; '.join(others)}."
    return (
        "Trained again twice, it gave the same both times, and not what was recorded: something that the state does "
        "not hold has decided, such as data that nobody names by a digest, or what was recorded was changed since."
    )


def _chance(environment: Mapping[str, Any]) -> str:
    sentence = (
        "Trained again twice, it differs from itself: something is drawn outside of the seeds (os.urandom, the time, "
        "a generator that nobody seeds, the order of a set or of files), or an operation is not deterministic."
    )
    is_off = not environment.get("deterministic", True)
    return f"{sentence} Deterministic algorithms are turned off." if is_off else sentence
