"""Commands about files and programs here: get, certificate, verify, check."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from heimdall.client.command import certificates, tables
from heimdall.client.command.base import JobNumber, Json, client, command, complain, say
from heimdall.client.command.making import pairs
from heimdall.client.errors import MissingPackage
from heimdall.errors import InvalidInput


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


@command("certificate")
def get_certificate(
    job: JobNumber,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file (job-N-certificate.json).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a job's certificate, which `heimdall verify` looks at without a server."""
    with client() as server:
        document = server.job(job).certificate()
    path = output or Path(f"job-{job}-certificate.json")
    path.write_bytes(document)
    say({"file": str(path)}, f"{path} is the certificate of job {job} as it is now.", as_json=as_json)


@command("verify")
def verify_files(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="A certificate and files that it names, or checkpoints."),
    ],
    digest: Annotated[str, typer.Option(help="It must be this state: `digest` of the API.")] = "",
    key: Annotated[
        list[str], typer.Option(help="A key to be trusted: a file, or its value. May be given again.")
    ] = [],  # noqa: B006
    replay: Annotated[
        bool, typer.Option("--replay", help="Train a stretch of the certificate again, here. Needs torch.")
    ] = False,
    code: Annotated[Path, typer.Option(help="With --replay: the folder of a program's code.")] = Path("."),
    points: Annotated[int, typer.Option(min=1, help="With --replay: past how many states of the chain.")] = 1,
    as_json: Json = False,
) -> int:
    """Check a certificate, or every bit of checkpoint files, without a server and without torch."""
    if certificates.is_certificate(files[0]):
        found = certificates.verify(files[0], files[1:], keys=key, as_json=as_json)
        if replay and not found:
            certificates.replay(files[0], files[1:], code=code, points=points, as_json=as_json)
        return found
    if key or replay:
        raise InvalidInput({"file": [f"{files[0]} is no certificate, which --key and --replay are for."]})
    return _verify_checkpoints(files, digest, as_json=as_json)


def _verify_checkpoints(files: list[Path], digest: str, *, as_json: bool) -> int:
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
