"""Commands between Heimdall and other tools: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heimdall.client.command.base import JobNumber, Json, client, command, say
from heimdall.errors import InvalidInput


@command("export")
def export_job(
    job: JobNumber,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write event files for TensorBoard below this folder."),
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Make a run on this server of MLflow.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a job's values to TensorBoard or MLflow."""
    from heimdall.client import exporting

    if (tensorboard is None) == (mlflow is None):
        raise InvalidInput({"export": ["Say where to: --tensorboard FOLDER or --mlflow URI."]})
    with client() as server:
        found = server.job(job)
        if tensorboard is not None:
            written = exporting.to_tensorboard(found, tensorboard)
            sentence = f"Written: tensorboard --logdir {tensorboard}"
            say({"job": job, "folder": str(written)}, sentence, as_json=as_json)
        elif mlflow is not None:
            run = exporting.to_mlflow(found, mlflow)
            say({"job": job, "run": run}, f"Job {job} is the run {run} of {mlflow}.", as_json=as_json)


@command("import")
def import_folder(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder with event files of TensorBoard.")
    ],
    name: Annotated[str | None, typer.Option(help="What the job is called; else as the folder.")] = None,
    tag: Annotated[list[str], typer.Option("--tag", help="May be given again.")] = [],  # noqa: B006
    rename: Annotated[
        list[str], typer.Option(metavar="TAG=NAME", help="Such as Loss/train=loss; may be given again.")
    ] = [],  # noqa: B006
    job: Annotated[
        int | None, typer.Option(min=1, help="Go on with the job of an import that broke off.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a job of a folder of TensorBoard: its scalars, with their steps and times."""
    from heimdall.client.importing import import_tensorboard

    with client() as server:
        made = import_tensorboard(server, folder, name=name, tags=tag, rename=_renamed(rename), job=job)
    say(made.fields.raw, f"Job {made.id}: {made.name}, {made.url}", as_json=as_json)


def _renamed(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        tag, sign, name = pair.rpartition("=")
        if not (sign and tag and name):
            raise InvalidInput({"rename": [f"{pair[:60]!r} is not of the form TAG=NAME."]})
        found[tag] = name
    return found
