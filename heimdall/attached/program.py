"""What a program is: a script or any command, with all that is to be known to start it. No torch, no Django."""

import re
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from heimdall.recipes.config import RecipeConfig, refuse, shared
from heimdall.recipes.demand import MAX_DEVICES

MAX_WORDS = 200
LONGEST_WORD = 4_000
MAX_VARIABLES = 100
MAX_PATTERNS = 20
LONGEST_PATTERN = 300
FOR_COMMANDS = ("checkpoint_folder", "metric_patterns", "resume_arguments", "pause_signal", "grace_seconds")
# Of a program's environment these are ours to set, or would change whose code is loaded. Whose GPU a slot has is not
# the program's to say: another job computes on the others.
OWN_VARIABLES = re.compile(
    r"HEIMDALL_.*|LD_PRELOAD|LD_AUDIT|LD_LIBRARY_PATH|PYTHONHASHSEED|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER"
)
UV = "uv"
# The first of these that a folder holds is what its environment is built from; the others are read with it.
SOURCES = (
    ("uv.lock", ("pyproject.toml", ".python-version")),
    ("pyproject.toml", (".python-version",)),
    ("requirements.txt", ("constraints.txt", ".python-version")),
)
NO_SOURCES = (
    "The code holds no uv.lock, pyproject.toml or requirements.txt to build an environment from: add one to the "
    "program's folder, or choose another environment."
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_PYTHON = re.compile(r"python(3(\.\d+)?)?")


class Program(RecipeConfig):
    """One program. Every door makes a job of it through this model."""

    called = "program"

    command: list[str] = Field(
        min_length=1,
        max_length=MAX_WORDS,
        title="Command",
        description="The command and its arguments, as a list of words; no shell reads it.",
    )
    kind: Literal["", "script", "command"] = Field(
        "",
        title="Kind",
        description="A script calls heimdall.attach and runs in the trainer; a command is any other program. Empty: "
        "a Python file that mentions heimdall is a script.",
    )
    directory: str = Field(
        "", max_length=500, title="Directory", description="The folder of the code in which it is started."
    )
    environment: str = Field(
        "",
        max_length=50,
        pattern=r"[A-Za-z0-9._-]*",
        title="Environment",
        description="Empty: the worker's Python. uv: built from the code's lock or requirements file. Else one that "
        "the worker knows by this name.",
    )
    hook: Literal["", "hugging_face", "lightning"] = Field(
        "",
        title="Hook",
        description="Attach the Trainer of this framework without a line in the script.",
    )
    devices: int = Field(
        1,
        ge=1,
        le=MAX_DEVICES,
        title="Devices",
        description="How many devices of one host it takes. A script is started once for each, with the environment "
        "variables that torchrun would set; a command is started once, and sees them all.",
    )
    hosts: int = Field(
        1,
        ge=1,
        le=64,
        title="Hosts",
        description="How many hosts train together, each with so many devices.",
    )
    variables: dict[str, str] = Field(
        default_factory=dict,
        max_length=MAX_VARIABLES,
        title="Variables",
        description="Environment variables that it is given.",
    )
    secrets: list[str] = Field(
        default_factory=list,
        max_length=MAX_VARIABLES,
        title="Secrets",
        description="Names of further variables whose values are kept encrypted and shown nowhere.",
    )
    pause_signal: Literal["USR1", "TERM"] = Field(
        "TERM", title="Pause signal", description="What a command is sent when it is to save and leave."
    )
    grace_seconds: float = Field(
        30.0, gt=0, le=3_600, title="Grace", description="How long it may take to leave, in seconds."
    )
    resume_arguments: list[str] = Field(
        default_factory=list,
        max_length=MAX_WORDS,
        title="Resume arguments",
        description="Further arguments where its checkpoint folder holds something, such as --resume.",
    )
    checkpoint_folder: str = Field(
        "",
        max_length=500,
        title="Checkpoint folder",
        description="Where a command keeps its own checkpoints; it is kept between attempts.",
    )
    metric_patterns: list[str] = Field(
        default_factory=list,
        max_length=MAX_PATTERNS,
        title="Metric patterns",
        description="Regular expressions with named groups that read metrics from its log: loss=(?P<loss>[0-9.]+)",
    )

    @field_validator("command", "resume_arguments")
    @classmethod
    def _words(cls, words: list[str], info: ValidationInfo) -> list[str]:
        for word in words:
            if len(word) > LONGEST_WORD or "\0" in word:
                refuse(
                    str(info.field_name),
                    f"One of these words has more than {LONGEST_WORD} characters, or a NUL in it.",
                )
        if info.field_name == "command" and words and not words[0].strip():
            refuse("command", "Its first word is empty: begin with what is to be started, such as python.")
        return words

    @field_validator("directory", "checkpoint_folder")
    @classmethod
    def _inside(cls, path: str, info: ValidationInfo) -> str:
        if path and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\0" in path):
            refuse(
                str(info.field_name),
                f"{path!r} leads out of the code: give a path below it, such as examples/first.",
            )
        return path

    @field_validator("variables")
    @classmethod
    def _variables(cls, variables: dict[str, str]) -> dict[str, str]:
        for name, value in variables.items():
            _require_variable("variables", name)
            if len(value) > LONGEST_WORD or "\0" in value:
                refuse(
                    "variables",
                    f"The value of {name} has more than {LONGEST_WORD} characters, or a NUL in it.",
                )
        return variables

    @field_validator("secrets")
    @classmethod
    def _secrets(cls, names: list[str]) -> list[str]:
        for name in names:
            _require_variable("secrets", name)
        return names

    @field_validator("metric_patterns")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                has_groups = len(pattern) <= LONGEST_PATTERN and re.compile(pattern).groupindex
            except (re.error, OverflowError, RecursionError) as error:
                refuse("metric_patterns", f"{pattern!r} is no regular expression: {error}.")
            if not has_groups:
                refuse(
                    "metric_patterns",
                    f"{pattern[:100]!r} names no group: write (?P<loss>...) around the value, in at most "
                    f"{LONGEST_PATTERN} characters.",
                )
        return patterns

    @model_validator(mode="after")
    def _fits_together(self) -> "Program":
        if self.kind == "script" and self.script is None:
            refuse("command", "A script is started as python FILE.py, with its arguments behind it.")
        if self.hook and self.script is None:
            refuse("hook", "Only a Python script can be hooked: start it as python FILE.py.")
        if self.hook and self.kind == "command":
            refuse("hook", "A command is not hooked: leave out the kind, or the hook.")
        if self.kind == "script" or self.hook:
            self._refuse_what_is_for_commands()
        if self.hook and self.devices * self.hosts > 1:
            refuse("devices", "A hooked Trainer trains on one device: leave devices and hosts at 1.")
        if self.kind == "command" and self.hosts > 1:
            refuse("hosts", "A command is started on one host: leave hosts at 1, or attach a script.")
        if self.resume_arguments and not self.checkpoint_folder:
            refuse(
                "resume_arguments",
                "They are given where checkpoint_folder holds something, and without one there is nothing to go on "
                "from: name that folder, or leave them out.",
            )
        return self

    def _refuse_what_is_for_commands(self) -> None:
        for name in FOR_COMMANDS:
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                refuse(
                    name,
                    f"A script, which calls heimdall.attach, keeps its state and its metrics by that; "
                    f"{', '.join(FOR_COMMANDS[:-1])} and {FOR_COMMANDS[-1]} are for commands. Leave this out, or run "
                    "the script as a command (kind command): then heimdall.attach saves nothing.",
                )

    @property
    def script(self) -> str | None:
        """The Python file that is started; None where it is something else."""
        words = [word for word in self.command if word != "-u"]
        is_python = bool(_PYTHON.fullmatch(PurePosixPath(words[0]).name)) if words else False
        return words[1] if is_python and len(words) > 1 and words[1].endswith(".py") else None

    @property
    def arguments(self) -> list[str]:
        """What a script finds in sys.argv behind its own name."""
        words = [word for word in self.command if word != "-u"]
        return words[2:]


class ProgramSettings(RecipeConfig):
    """What Heimdall reads of a program's config, which is otherwise the program's own."""

    seed: int = shared("seed", 0)
    deterministic: bool = shared("deterministic", True)
    checkpoint_every_minutes: float = shared("checkpoint_every_minutes", 10.0)
    checkpoint_every_epochs: int = shared("checkpoint_every_epochs", 1)
    keep_last: int = shared("keep_last", 2)
    keep_best: int = shared("keep_best", 1)


def environment_sources(names: set[str], directory: str) -> tuple[str, ...]:
    """The files that uv builds an environment from, the main one first: of the program's folder, else of the top."""
    for place in dict.fromkeys((directory, "")):
        for main, others in SOURCES:
            paths = [str(PurePosixPath(place) / name) for name in (main, *others)]
            if paths[0] in names:
                return tuple(path for path in paths if path in names)
    return ()


def _require_variable(field: str, name: str) -> None:
    if not _VARIABLE.fullmatch(name):
        refuse(field, f"{name[:60]!r} is no name of an environment variable: use letters, digits and _.")
    if OWN_VARIABLES.fullmatch(name):
        refuse(field, f"{name} is set by Heimdall: leave it out, or choose another name.")
