"""Commands about files and programs here: get, verify, check."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from heimdall.client.command import tables
from heimdall.client.command.base import JobNumber, Json, client, command, complain, say
from heimdall.client.command.making import pairs
from heimdall.client.errors import MissingPackage


@command("get")
def get_checkpoint(
    job: JobNumber,
    checkpoint: Annotated[
        str, typer.Option(help="best, final, newest, pause, periodic, or its number.")
    ] = "newest",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file or a folder (this folder).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a job's checkpoint, checked to the last bit. A download that broke off goes on where it was."""
    from heimdall.client.synchronous.downloads import download

    with client() as server:
        which = int(checkpoint) if checkpoint.isdigit() else checkpoint
        found = server.job(job).checkpoints[which]
        total = found.fields.size

        def show(num_bytes: int) -> None:
            if sys.stderr.isatty():
                print(
                    f"\r{tables.size(num_bytes)} of {tables.size(total)}   ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )

        path = download(server.server, found.fields, output, show)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    shown = {
        "file": str(path),
        "checkpoint": found.id,
        "step": found.fields.step,
        "digest": found.fields.digest,
    }
    say(
        shown,
        f"{path} is checkpoint {found.id} of job {job} at step {found.fields.step}, whole.",
        as_json=as_json,
    )


@command("verify")
def verify_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of checkpoints.")],
    digest: Annotated[str, typer.Option(help="It must be this state: `digest` of the API.")] = "",
    as_json: Json = False,
) -> int:
    """Check every bit of checkpoint files, without a server and without torch."""
    from heimdall import codec

    num_bad = 0
    for path in files:
        try:
            info = codec.verify(path, digest=digest.strip().lower() or None)
        except (codec.InvalidCheckpoint, OSError) as error:
            num_bad += 1
            if as_json:
                say({"file": str(path), "is_whole": False, "message": str(error)}, "", as_json=True)
            complain(f"{path} did not pass: {error}")
        else:
            shown = {
                "file": str(path),
                "is_whole": True,
                "digest": info.digest,
                "size": info.size,
                "about": info.about,
            }
            say(shown, f"{path} is whole: digest {info.digest}, {tables.size(info.size)}.", as_json=as_json)
    return 1 if num_bad else 0


@command("bundle")
def bundle_weights(
    weights: Annotated[
        Path, typer.Argument(help="A safetensors file, or a checkpoint folder of Hugging Face.")
    ],
    recipe: Annotated[str, typer.Option(help="Whose model has these weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write.")],
    settings: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A setting; may be given again.")
    ] = [],  # noqa: B006
    name: Annotated[str, typer.Option(help="What the job is called that it becomes.")] = "",
) -> None:
    """Make a bundle of weights that another tool saved, for a server to take in and to fork. Needs torch."""
    _require_torch("A bundle is made on this machine")
    options = ["--recipe", recipe, "--output", str(output), "--name", name]
    options += ["--config", json.dumps(pairs(settings))]
    os.execv(sys.executable, [sys.executable, "-m", "heimdall.foreign_weights", str(weights), *options])


def _require_torch(what: str) -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingPackage(f"{what}, which needs torch: pip install 'heimdall[torch]'")


@command("check")
def check_program(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Such as: -- python train.py")
    ] = None,
    recipe: Annotated[str, typer.Option(help="A recipe, in the place of a command.")] = "",
    settings: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A setting; may be given again.")
    ] = [],  # noqa: B006
    hook: Annotated[str, typer.Option(help="hugging_face or lightning: attach the script's Trainer.")] = "",
    steps: Annotated[int | None, typer.Option(min=2, help="How many optimizer steps are trained.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the steps after which it is stopped.")] = None,
    as_json: Json = False,
    is_program: Annotated[bool, typer.Option("--program", hidden=True)] = False,
) -> None:
    """Try on this machine whether a training script or a recipe is resumed exactly. Needs torch."""
    _require_torch("A check trains on this machine")
    options = ["--json"] if as_json else []
    options += ["--steps", str(steps)] if steps else []
    options += ["--seed", str(seed)] if seed is not None else []
    options += ["--recipe", recipe] if recipe else []
    options += ["--hook", hook] if hook else []
    options += ["--config", json.dumps(pairs(settings))] if settings else []
    sys.stdout.flush()
    program = ["--", *words] if words else []
    os.execv(sys.executable, [sys.executable, "-m", "heimdall.check", *options, *program])
