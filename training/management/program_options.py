"""A program on the command line: the folder that travels, the command behind --, and how it is run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from heimdall.code_archive import BadArchive, pack
from heimdall.errors import InvalidInput
from training import services
from training.models import CodeArchive
from training.store.code import max_bytes

_PLAIN = ("kind", "directory", "hook", "environment", "pause_signal", "grace_seconds", "checkpoint_folder")


def add_to(parser: CommandParser) -> None:
    group = parser.add_argument_group("programs", "with --program: job submit --program -- python train.py")
    group.add_argument(
        "--program", action="store_true", help="run the command behind -- with the code of this folder"
    )
    group.add_argument("--folder", type=Path, default=None, help="the code's folder (default: this one)")
    group.add_argument("--directory", help="where in the code it is started (default: at its top)")
    group.add_argument("--env", dest="environment", metavar="NAME", help="an environment of the server")
    group.add_argument("--kind", choices=["script", "command"], help="default: as the file looks")
    group.add_argument(
        "--hook", choices=["hugging_face", "lightning"], help="attach this framework's Trainer by itself"
    )
    _add_repeated(group, "--var", "variables", "NAME=VALUE", "a variable of its environment")
    _add_repeated(group, "--secret", "secrets", "NAME", "a variable of this shell that nobody is to see")
    _add_repeated(group, "--metric", "metric_patterns", "REGEX", "reads metrics from its log")
    _add_repeated(group, "--resume-argument", "resume_arguments", "WORD", "given where it goes on")
    group.add_argument("--checkpoint-folder", help="where a command keeps its own checkpoints")
    group.add_argument("--pause-signal", choices=["TERM", "USR1"], help="what a pause sends (TERM)")
    group.add_argument("--grace", dest="grace_seconds", type=float, metavar="SECONDS", help="to save (30)")


def read(options: dict[str, Any], *, by: User) -> dict[str, Any]:
    """What services.submit takes of a program. The folder is packed and brought."""
    command = options["recipe"]
    program: dict[str, Any] = {name: options[name] for name in _PLAIN if options[name] is not None}
    program |= {name: options[name] for name in ("metric_patterns", "resume_arguments") if options[name]}
    program |= {"command": command, "variables": dict(_pair(text) for text in options["variables"])}
    secrets = {name: _from_shell(name) for name in options["secrets"]}
    services.require_programs(by)
    code = bring(options["folder"] or Path.cwd(), by=by)
    return {"program": program | {"secrets": sorted(secrets)}, "secrets": secrets, "code": code.digest}


def require_none(options: dict[str, Any]) -> None:
    """Refuse what belongs to a program where there is none."""
    names = ["folder", "metric_patterns", "resume_arguments", "variables", "secrets", *_PLAIN]
    given = [name for name in names if options.get(name)]
    if given or len(options["recipe"]) > 1:
        what = ", ".join(given) or "more words than the recipe"
        raise InvalidInput({"program": [f"{what}: this belongs to a program; give --program, too."]})


def bring(folder: Path, *, by: User) -> CodeArchive:
    settings.STAGING_DIR.mkdir(0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="code-", dir=settings.STAGING_DIR) as place:
        try:
            packed = pack(folder, Path(place) / "packed.tar.gz", max_bytes=max_bytes())
        except BadArchive as error:
            raise InvalidInput({"code": [str(error)]}) from error
        with open(packed.path, "rb") as file:
            return services.keep_code(file, by=by, commit=packed.commit, is_dirty=packed.is_dirty)


def _add_repeated(group: Any, flag: str, name: str, shown: str, does: str) -> None:
    group.add_argument(
        flag, dest=name, metavar=shown, action="append", default=[], help=f"{does}; may be given again"
    )


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise InvalidInput({"variables": [f"{text[:60]!r} is not of the form NAME=VALUE."]})
    return name, value


def _from_shell(name: str) -> str:
    """A value on the command line would stand in every list of processes."""
    if name not in os.environ:
        raise InvalidInput(
            {"secrets": [f"There is no variable {name[:60]} here: set it in this shell first."]}
        )
    return os.environ[name]
