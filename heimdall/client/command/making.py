"""Commands that make jobs: submit, clone, fork, extend."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from heimdall.client.command.acting import await_rest
from heimdall.client.command.base import (
    JobNumber,
    Json,
    Timeout,
    Wait,
    client,
    command,
    complain,
    one_of,
    say,
)
from heimdall.client.command.tables import duration, size
from heimdall.client.shapes import pairs
from heimdall.errors import InvalidInput

Name = Annotated[str | None, typer.Option(help="What the job is called.")]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="FIELD=VALUE", help="A setting; may be given again, goes over --config."),
]
ConfigFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Settings as a JSON object; - reads standard input.")
]

Text = str | None
Directory = Annotated[Text, typer.Option(help="Program: where in the code it is started.")]
Environment = Annotated[Text, typer.Option("--env", help="Program: an environment of the server, or uv.")]
Kind = Annotated[Text, typer.Option(help="Program: script or command; else as the file looks.")]
Hook = Annotated[Text, typer.Option(help="Program: attach hugging_face or lightning.")]
OwnCheckpoints = Annotated[Text, typer.Option("--checkpoint-folder", help="Program: where it keeps its own.")]
PauseSignal = Annotated[Text, typer.Option(help="Program: what a pause sends, TERM or USR1.")]
Grace = Annotated[
    float | None, typer.Option("--grace", metavar="SECONDS", help="Program: the time it has to save.")
]
Variables = Annotated[
    list[str], typer.Option("--var", metavar="NAME=VALUE", help="Program: of its environment.")
]
Secrets = Annotated[
    list[str],
    typer.Option("--secret", metavar="NAME", help="Program: a variable of this shell that nobody is to see."),
]
Patterns = Annotated[
    list[str], typer.Option("--metric", metavar="REGEX", help="Program: reads metrics from its log.")
]
ToResume = Annotated[
    list[str], typer.Option("--resume-argument", metavar="WORD", help="Program: given where it goes on.")
]


@command("submit")
def submit_job(
    words: Annotated[list[str], typer.Argument(metavar="RECIPE | -- COMMAND...", help="What is trained.")],
    name: Name = None,
    settings: Settings = [],  # noqa: B006
    config: ConfigFile = None,
    description: Annotated[str | None, typer.Option()] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    pool: Annotated[str | None, typer.Option(help="Only nodes of this pool take it.")] = None,
    team: Annotated[str | None, typer.Option(help="A group of yours that may help run it.")] = None,
    tag: Annotated[list[str], typer.Option("--tag", help="May be given again.")] = [],  # noqa: B006
    folder: Annotated[Path | None, typer.Option(help="Program: whose code travels (this one).")] = None,
    directory: Directory = None,
    environment: Environment = None,
    kind: Kind = None,
    hook: Hook = None,
    checkpoint_folder: OwnCheckpoints = None,
    pause_signal: PauseSignal = None,
    grace_seconds: Grace = None,
    variables: Variables = [],  # noqa: B006
    secret: Secrets = [],  # noqa: B006
    metric_patterns: Patterns = [],  # noqa: B006
    resume_arguments: ToResume = [],  # noqa: B006
    is_program: Annotated[bool, typer.Option("--program", hidden=True)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what a recipe's job would be; make none.")
    ] = False,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> int:
    """Queue a recipe (`submit wave --set epochs=20`), or your own code (`submit -- python train.py --lr 3e-4`)."""
    about: dict[str, Any] = {"name": name, "description": description, "priority": priority, "pool": pool}
    about |= {"team": team, "tags": tag or None, "config": read_config(config) | pairs(settings)}
    program: dict[str, Any] = {"directory": directory, "environment": environment, "kind": kind, "hook": hook}
    program |= {
        "checkpoint_folder": checkpoint_folder,
        "pause_signal": pause_signal,
        "grace_seconds": grace_seconds,
    }
    program |= {"metric_patterns": metric_patterns, "resume_arguments": resume_arguments}
    program |= {"variables": texts(variables)}
    program = {one: value for one, value in program.items() if value}
    if is_program and dry_run:
        why = "It tries recipes alone, and nothing was queued: leave it out to run a program."
        raise InvalidInput({"dry_run": [why]})
    with client() as server:
        if is_program:
            secrets = {one: _of_this_shell(one) for one in secret}
            about |= {"folder": folder or Path.cwd(), "program": program, "secrets": secrets}
            return _made(server.submit_program(words, **about), wait, timeout, as_json)
        _refuse_what_belongs_to_programs(words, program, folder, secret)
        if dry_run:
            return _tried(server.try_submission(words[0], **about), as_json)
        return _made(server.submit(words[0], **about), wait, timeout, as_json)


@command("clone")
def clone_job(
    job: JobNumber,
    name: Name = None,
    settings: Settings = [],  # noqa: B006
    config: ConfigFile = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> int:
    """Begin a job like another one from nothing, with some settings changed."""
    with client() as server:
        made = server.job(job).clone(name=name, config=read_config(config) | pairs(settings))
        return _made(made, wait, timeout, as_json)


@command("fork")
def fork_job(
    job: JobNumber,
    checkpoint: Annotated[int | None, typer.Option(min=1, help="Its number (the newest good one).")] = None,
    carry: Annotated[
        str, typer.Option(help="training: everything goes on. weights: those alone.")
    ] = "training",
    name: Name = None,
    settings: Settings = [],  # noqa: B006
    config: ConfigFile = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> int:
    """Begin a job from a checkpoint of another one, with some settings changed."""
    carried = one_of("carry", carry, ("training", "weights"))
    with client() as server:
        changed = read_config(config) | pairs(settings)
        made = server.job(job).fork(checkpoint=checkpoint, carry=carried, name=name, config=changed)
        return _made(made, wait, timeout, as_json)


@command("extend")
def extend_job(
    job: JobNumber,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of a completed training.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Of a job that made a dataset.")] = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> int:
    """Make a job with more epochs of a completed training, or more samples of a dataset."""
    with client() as server:
        return _made(server.job(job).extend(epochs=epochs, samples=samples), wait, timeout, as_json)


def read_config(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    try:
        found = json.loads(sys.stdin.read() if source == "-" else Path(source).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput({"config": [f"{source} cannot be read as JSON: {error}."]}) from error
    if not isinstance(found, dict):
        raise InvalidInput({"config": [f"{source} holds no JSON object."]})
    return found


def _made(job: Any, wait: bool, timeout: float | None, as_json: bool) -> int:
    say(job.fields.raw, f"{job.message} {job.url}", as_json=as_json)
    if timeout is not None and not wait:
        complain("--timeout says how long to wait, and nothing is waited for without --wait.")
    return await_rest([job], "submit", timeout, as_json) if wait else 0


def _tried(found: dict[str, Any], as_json: bool) -> int:
    needs = f"It needs about {size(found['memory_bytes'])}. " if found["memory_bytes"] else ""
    why = (found["waiting"] or {}).get("message", "")
    config = json.dumps(found["config"], indent=2)
    say(found, f"It would be accepted. {needs}{why}{_where_and_when(found)}\n{config}", as_json=as_json)
    return 0


def _where_and_when(found: dict[str, Any]) -> str:
    """As far as the server knows; an older one does not tell."""
    where, seconds = found.get("free_slots"), found.get("starts_in_seconds")
    nodes = ", ".join(f"{name} ({free} free)" for name, free in where.items()) if where else ""
    about = f" It would run on {nodes}." if nodes else ""
    return f"{about} It starts in about {duration(seconds)}." if seconds else about


def _refuse_what_belongs_to_programs(
    words: list[str], program: dict[str, Any], folder: Path | None, secret: list[str]
) -> None:
    if program or folder or secret or len(words) > 1:
        raise InvalidInput(
            {"submit": ["A program stands behind --, as in: heimdall submit -- python train.py"]}
        )


def texts(items: list[str]) -> dict[str, str]:
    """NAME=VALUE, each value as the text that it is."""
    pairs(items, field_name="var")
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _of_this_shell(name: str) -> str:
    """A value on the command line would stand in every list of processes."""
    if name not in os.environ:
        raise InvalidInput(
            {"secret": [f"There is no variable {name[:60]} here: set it in this shell first."]}
        )
    return os.environ[name]
