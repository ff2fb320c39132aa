"""The command line door to files of checkpoints and bundles: `manage.py checkpoint verify FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training.errors import BadCheckpoint
from training.management.progress import printable
from training.store import checkpoints


class Command(BaseCommand):
    help = "Check the file of a checkpoint or bundle, every bit of it, wherever it came from."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        one = verbs.add_parser(
            "verify", help="Check files", description="Check files; exit code 1 for a bad one."
        )
        one.add_argument("files", metavar="FILE", type=Path, nargs="+")
        one.add_argument("--digest", default="", help="it must be this state: `digest` of the API")
        one.add_argument(
            "--header-sha256", default="", help="it must be this very file: `header_sha256` of the API"
        )
        one.add_argument("--json", action="store_true", dest="as_json", help="print JSON, one object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        bad = 0
        for path in options["files"]:
            try:
                self._print(path, _verified(path, options), as_json=options["as_json"])
            except (BadCheckpoint, OSError) as error:
                bad += 1
                self.stderr.write(printable(f"bad  {error}"))
        if bad:
            raise CommandError(f"{bad} of {len(options['files'])} did not pass.")

    def _print(self, path: Path, info: Any, *, as_json: bool) -> None:
        facts = {"digest": info.digest, "header_sha256": info.header_sha256, "size": info.size}
        if as_json:
            self.stdout.write(json.dumps({"file": str(path), **facts, "about": info.about}))
            return
        self.stdout.write(printable(f"ok   {path}"))
        for name, value in facts.items():
            self.stdout.write(f"     {name:13} {value}")


def _verified(path: Path, options: dict[str, Any]) -> Any:
    info = checkpoints.look_into(path)
    for name in ("digest", "header_sha256"):
        found, wanted = getattr(info, name), options[name].strip().lower()
        if wanted and found != wanted:
            raise BadCheckpoint(f"{path} is whole, but its {name} is {found}.")
    return info
