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
OF_PROGRAMS = "Programs (behind --)"


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
    folder: Annotated[
        Path | None, typer.Option(help="Program: the folder whose code travels (this one).")
    ] = None,
    directory: Annotated[str | None, typer.Option(help="Program: where in the code it is started.")] = None,
    env: Annotated[str | None, typer.Option(help="Program: an environment of the server, or uv.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Program: script or command; else as the file looks.")
    ] = None,
    hook: Annotated[str | None, typer.Option(help="Program: attach hugging_face or lightning.")] = None,
    var: Annotated[
        list[str], typer.Option("--var", metavar="NAME=VALUE", help="Program: a variable for it.")
    ] = [],  # noqa: B006
    secret: Annotated[
        list[str],
        typer.Option("--secret", metavar="NAME", help="Program: a variable of this shell nobody is to see."),
    ] = [],  # noqa: B006
    metric: Annotated[
        list[str], typer.Option("--metric", metavar="REGEX", help="Program: reads metrics from its log.")
    ] = [],  # noqa: B006
    is_program: Annotated[bool, typer.Option("--program", hidden=True)] = False,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> int:
    """Queue a recipe (`submit wave --set epochs=20`), or your own code (`submit -- python train.py --lr 3e-4`)."""
    about: dict[str, Any] = {
        "name": name,
        "description": description,
        "priority": priority,
        "pool": pool,
        "team": team,
    }
    about |= {"tags": tag or None, "config": read_config(config) | pairs(settings)}
    plain = {"directory": directory, "environment": env, "kind": kind, "hook": hook}
    program: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
    program |= {name: value for name, value in (("metric_patterns", metric),) if value}
    program |= {"variables": _texts(var)} if var else {}
    with client() as server:
        if is_program:
            secrets = {name: _of_this_shell(name) for name in secret}
            job = server.submit_program(
                words, folder=folder or Path.cwd(), program=program, secrets=secrets, **about
            )
        else:
            _refuse_what_belongs_to_programs(words, program, folder, secret)
            job = server.submit(words[0], **about)
        return _made(job, wait, timeout, as_json)


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
    except (OSError, ValueError) as error:
        raise InvalidInput({"config": [f"{source} cannot be read as JSON: {error}."]}) from error
    if not isinstance(found, dict):
        raise InvalidInput({"config": [f"{source} holds no JSON object."]})
    return found


def _made(job: Any, wait: bool, timeout: float | None, as_json: bool) -> int:
    say(job.fields.raw, f"{job.message} {job.url}", as_json=as_json)
    if timeout is not None and not wait:
        complain("--timeout says how long to wait, and nothing is waited for without --wait.")
    return await_rest([job], "submit", timeout, as_json) if wait else 0


def _refuse_what_belongs_to_programs(
    words: list[str], program: dict[str, Any], folder: Path | None, secret: list[str]
) -> None:
    if program or folder or secret or len(words) > 1:
        raise InvalidInput(
            {"submit": ["A program stands behind --, as in: heimdall submit -- python train.py"]}
        )


def _texts(items: list[str]) -> dict[str, str]:
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
