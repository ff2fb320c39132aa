"""What a supervisor and its trainer say to each other: one frozen dataclass a message, and the lines they travel as.

Control (down) and messages (up) carry one JSON object a line. `kind` names the class, the rest are its fields; NaN
and the infinities travel as the strings "nan", "inf" and "-inf". The first line down is the TrainerSpec, the first
line up is Hello: both carry the version, and an end that finds another one refuses with a sentence. Lines are made
and read here alone; docs/protocol.md is the table of these classes.
Change VERSION with every change that an older end would misunderstand: a new message, a field more or less.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import NoneType
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from heimdall.plain_json import NOT_FINITE, with_named_floats

VERSION = 6
PACKET_BYTES = 65_536  # the most that a packet between supervisor, fork server and zygote holds
MOST_RANKS = 64  # of one trainer on one host
RECIPE_DRIVER = "heimdall.engine.recipe_job"  # the module that trains by a recipe

M = TypeVar("M", bound="WireMessage")

_CLASSES: dict[str, type["WireMessage"]] = {}


class ProtocolError(ValueError):
    """A line that is none of this protocol."""


class OtherVersion(ProtocolError):
    """The other end speaks another version of it."""


@dataclass(frozen=True)
class WireMessage:
    kind: ClassVar[str] = ""
    direction: ClassVar[str] = ""

    def __init_subclass__(cls, *, kind: str = "", direction: str = "") -> None:
        if direction:
            cls.direction = direction
        if kind:
            cls.kind = kind
            _CLASSES[kind] = cls


class ToTrainer(WireMessage, direction="down"):
    """From the supervisor."""


class FromTrainer(WireMessage, direction="up"):
    """From the trainer."""


# Down


@dataclass(frozen=True)
class TrainerSpec(ToTrainer, kind="spec"):
    """All that a trainer is told at its start."""

    package: str
    """The recipe's package."""
    config: dict[str, Any]
    staging: str
    """The folder for checkpoints and shards that are not stored yet."""
    about: dict[str, Any] = field(default_factory=dict)
    """What a checkpoint's header says of its job and attempt."""
    checkpoint: str | None = None
    """A local file to start from."""
    carry: str = ""
    """The checkpoint is another training's, and this is what is carried over; empty: it is this one's own."""
    device: str = "auto"
    gpus: list[int | str | None] = field(default_factory=lambda: [None])
    """Of each rank: its GPU's number, or its UUID; empty: none at all; None: whichever CUDA finds."""
    ranks: int = 1
    """How many processes train together on this host."""
    rank_offset: int = 0
    """The number of the first of them; those of other hosts come before."""
    world_size: int = 0
    """How many there are on all hosts; 0: only these."""
    rendezvous: str = ""
    """host:port where ranks of several hosts meet, which rank 0 listens on; empty: those of this host find it out."""
    threads: int | None = None
    pinned: dict[str, Any] = field(default_factory=dict)
    """The environment that earlier attempts resolved."""
    expected: dict[str, Any] = field(default_factory=dict)
    """The step, the epoch and the digest of the checkpoint."""
    scratch: str = ""
    finished: list[int] = field(default_factory=list)
    """Synthetic data: numbers of the shards that need not be made again."""
    program: dict[str, Any] = field(default_factory=dict)
    """What is run in the place of a recipe, and the digest of its code."""
    folder: str = ""
    """Where the program's code lies."""
    until_step: int | None = None
    """Stop after this step as if it had been asked for."""
    until_epoch: int = 0
    """And not before so many epochs are closed."""
    rest_after_epoch: int | None = None
    """Stop after this epoch, say `stopped` and wait: told to go on, train to the end."""
    leave_out: list[str] = field(default_factory=list)
    """What a restore leaves out on purpose, so that a check sees that it would notice."""
    hash_seconds: float = 0.0
    """How often the state is hashed without being stored, at most; 0: never."""
    hash_at: list[list[int]] = field(default_factory=list)
    """[finished steps, finished epochs] at which the state is hashed, whatever it costs."""
    name_title: str = "heimdall trainer"
    driver: str = RECIPE_DRIVER
    """The module whose `run(channel)` does the work."""
    version: int = VERSION


@dataclass(frozen=True)
class StopTraining(ToTrainer, kind="stop"):
    """Stop `at` the next step or the end of the epoch, stage a checkpoint, say `stopped` and wait."""

    at: str


@dataclass(frozen=True)
class GoOn(ToTrainer, kind="go_on"):
    """The stop was withdrawn: train on, also from where you stopped."""


@dataclass(frozen=True)
class FileStored(ToTrainer, kind="stored"):
    """The staged file at this path was taken over, or left out; it is not yours any more."""

    path: str


@dataclass(frozen=True)
class Exit(ToTrainer, kind="exit"):
    """Nothing more is wanted: end the process."""


# Up


@dataclass(frozen=True)
class Hello(FromTrainer, kind="hello"):
    """The first line, before anything is imported."""

    version: int = VERSION


@dataclass(frozen=True)
class Started(FromTrainer, kind="started"):
    """Everything is built and restored; the training stands at this place."""

    step: int
    epoch: int
    total_steps: int
    steps_per_epoch: int = 0
    total_epochs: int = 0
    parameters: int = 0
    environment: dict[str, Any] = field(default_factory=dict)
    """What was resolved: device, threads, precision, versions, the fingerprint of the data."""
    approximate: list[str] = field(default_factory=list)
    """Why a resume is not exact, a sentence each."""
    learning_rate: float | None = None
    ranks: list[dict[str, Any]] = field(default_factory=list)
    """Where several train together: of each `rank`, `host`, `pid` and `device`."""


@dataclass(frozen=True)
class StepsDone(FromTrainer, kind="steps"):
    """Finished steps, each row with `step`, `epoch` and values by name; of `total_steps`, as far as that is known."""

    rows: list[dict[str, Any]]
    total_steps: int = 0


@dataclass(frozen=True)
class EpochDone(FromTrainer, kind="epoch"):
    """An epoch was closed: validated and, where it is the best one, remembered as such."""

    step: int
    epoch: int
    values: dict[str, Any]
    best_epoch: int | None = None
    best_val_loss: float | None = None
    is_best: bool = False
    artifact: Mapping[str, Any] | None = None
    """What the recipe has to show."""


@dataclass(frozen=True)
class PhaseChanged(FromTrainer, kind="phase"):
    """The training does something else now: training or validating."""

    phase: str


@dataclass(frozen=True)
class StagedCheckpoint(FromTrainer, kind="staged"):
    """A checkpoint is durable on this machine, and is to be stored."""

    path: str
    step: int
    epoch: int
    kinds: tuple[str, ...]
    """Why it was made: periodic, best, pause, final; several may share a file."""
    digest: str
    size: int
    header_sha256: str
    val_loss: float | None = None
    stage_seconds: float = 0.0
    came_from: str = ""
    """The digest of the state that was staged or hashed before it, or that the attempt began with; empty: none."""
    came_from_step: int = 0
    samples: int | None = None
    """Finished training samples of the whole job, where whoever trains counts them."""


@dataclass(frozen=True)
class StateHashed(FromTrainer, kind="hashed"):
    """A state that is not stored, only hashed: a link of the chain between two checkpoints."""

    step: int
    epoch: int
    digest: str
    came_from: str = ""
    came_from_step: int = 0
    samples: int | None = None


def as_hashed(staged: StagedCheckpoint) -> StateHashed:
    """What is left of a checkpoint that is not stored: a link of the chain."""
    return StateHashed(
        staged.step,
        staged.epoch,
        staged.digest,
        came_from=staged.came_from,
        came_from_step=staged.came_from_step,
        samples=staged.samples,
    )


@dataclass(frozen=True)
class StagedShard(FromTrainer, kind="shard"):
    """Synthetic data: one more file is durable on this machine, and is to be stored."""

    path: str
    entry: dict[str, Any]
    """As it will stand in the manifest: `shard` (its number), `path` (its name), `size`, `sha256`, and what the
    recipe says of it."""
    done: int
    total: int


@dataclass(frozen=True)
class CheckpointFailed(FromTrainer, kind="checkpoint_failed"):
    """A checkpoint could not be written; the training goes on, or tries again where it has to stop."""

    error: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stopped(FromTrainer, kind="stopped"):
    """Stopped as asked, with everything staged; waits for `go_on` or `exit`."""

    step: int
    epoch: int


@dataclass(frozen=True)
class Finished(FromTrainer, kind="finished"):
    """Came to its end, with everything staged; waits for `exit`. `reason`: epochs, early_stopping, shards."""

    step: int
    epoch: int
    reason: str = ""


@dataclass(frozen=True)
class Failed(FromTrainer, kind="failed"):
    """It cannot go on, and another try would not help; the process ends by itself."""

    code: str
    error: str
    traceback: str = ""


# A supervisor, its fork server, and the zygote that the server is forked from


@dataclass(frozen=True)
class ForkForkServer(WireMessage, kind="fork_server", direction="to the zygote"):
    """Fork a fork server; its end of a socket, and the supervisor's pidfd, come with the packet."""


class ToForkServer(WireMessage, direction="to the fork server"):
    """From the supervisor."""


class FromForkServer(WireMessage, direction="from the fork server"):
    """From the fork server."""


@dataclass(frozen=True)
class ForkTrainer(ToForkServer, kind="fork"):
    """Fork a trainer, one process for each environment; their pipe ends come with the packet.

    First the control and message pipes of rank 0, then the page that ranks share (only where there are several), then
    a log for each.
    """

    request: int
    environments: list[dict[str, str]]


@dataclass(frozen=True)
class ServerReady(FromForkServer, kind="ready"):
    """Everything is imported. The server's pidfd comes with the packet."""

    pid: int


@dataclass(frozen=True)
class TrainerForked(FromForkServer, kind="forked"):
    """The trainer that was asked for; a pidfd of each of its processes comes with the packet, rank 0's first."""

    request: int
    pids: list[int]


@dataclass(frozen=True)
class ForkRefused(FromForkServer, kind="refused"):
    """No trainer could be forked."""

    request: int
    error: str


@dataclass(frozen=True)
class TrainerEnded(FromForkServer, kind="ended"):
    """A trainer that was forked here has ended, all of its ranks; the code is negative for a signal."""

    pid: int
    """Rank 0's."""
    code: int


# Lines


def encode(message: WireMessage) -> bytes:
    """The line of a message. Numbers of numpy or torch become plain ones, anything else unknown its text."""
    content = {"kind": message.kind, **vars(message)}
    try:
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError):
        text = json.dumps(_sendable(content), allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def num_bytes(value: Mapping[str, Any]) -> int:
    """How much a value adds to a line."""
    return len(json.dumps(_sendable(value), allow_nan=False, separators=(",", ":")))


def decode(line: bytes, wanted: type[M]) -> M:
    """The message of a line, which is to be of this class or of this direction."""
    try:
        content = json.loads(line)
    except ValueError as error:
        raise ProtocolError(f"This line is no JSON: {_shown(line)}") from error
    kind = content.pop("kind", None) if isinstance(content, dict) else None
    found = _CLASSES.get(kind) if isinstance(kind, str) else None
    if found is None or not issubclass(found, wanted):
        expected = wanted.kind or f"a message {wanted.direction}"
        raise ProtocolError(f"{kind!r} is not {expected} of version {VERSION}: {_shown(line)}")
    return found(**_checked(found, content))


def _checked(found: Any, content: dict[str, Any]) -> dict[str, Any]:
    known = _fields_of(found)
    if "version" in known and content.get("version") != VERSION:
        raise OtherVersion(
            f"The other end speaks version {content.get('version')} of the trainer's protocol, this one version "
            f"{VERSION}. Run the same version of Heimdall at both ends."
        )
    if surplus := content.keys() - known.keys():
        raise ProtocolError(f"{found.kind} has no field {min(surplus)}.")
    for name, (types, is_needed) in known.items():
        if name not in content:
            if is_needed:
                raise ProtocolError(f"{found.kind} lacks its field {name}.")
            continue
        content[name] = _value(found, name, content[name], types)
    return content


def _value(found: type[WireMessage], name: str, value: Any, types: tuple[type, ...]) -> Any:
    if tuple in types and isinstance(value, list):
        return tuple(value)
    if float in types and (type(value) is int or value in NOT_FINITE):
        return float(value)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ProtocolError(f"{name} of {found.kind} cannot be {_shown(str(value).encode())}.")
    return value


@cache
def _fields_of(found: Any) -> dict[str, tuple[tuple[type, ...], bool]]:
    """Of each field the types that it may have, and whether it has to be there."""
    hints = get_type_hints(found)
    return {
        one.name: (
            tuple(get_origin(hint) or hint for hint in _alternatives(hints[one.name])),
            one.default is MISSING and one.default_factory is MISSING,
        )
        for one in fields(found)
    }


def _alternatives(hint: Any) -> tuple[Any, ...]:
    parts = get_args(hint)
    return parts if NoneType in parts else (hint,)


def _sendable(value: Any) -> Any:
    if isinstance(value, float):
        return with_named_floats(float(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _sendable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_sendable(item) for item in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return _sendable(value.item())
    return str(value)


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip()
    return text if len(text) <= 200 else f"{text[:200]}..."


def messages() -> list[type[WireMessage]]:
    """All that are written down here, in their order."""
    return [one for one in _CLASSES.values() if one.__module__ == __name__]
