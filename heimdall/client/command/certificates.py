"""Certificates on this machine: whether one holds, and a stretch of it trained again."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from heimdall.client.command.base import complain, say
from heimdall.client.errors import MissingPackage
from heimdall.errors import InvalidInput

_BEGINS = b'{"payload"'


def is_certificate(path: Path) -> bool:
    """By its first bytes: a checkpoint begins with a length."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(_BEGINS))
    except OSError:
        return False
    return path.suffix == ".json" or begin == _BEGINS


def verify(path: Path, files: Sequence[Path], *, keys: Sequence[str], as_json: bool) -> int:
    """Say what passed and what did not; 1 where anything did not."""
    from heimdall.certificate.keys import public_keys_in
    from heimdall.certificate.verdict import verify_certificate

    trusted = [found for key in keys for found in public_keys_in(_text_of(key))]
    if keys and not trusted:
        raise InvalidInput({"key": ["There is no key in what was given."]})
    try:
        verdict = verify_certificate(path.read_bytes(), keys=trusted, files=files)
    except OSError as error:
        raise InvalidInput({"file": [f"{path} cannot be read: {error.strerror}."]}) from error
    if as_json:
        summary = verdict.statement["predicate"]["summary"] if verdict.is_good and verdict.statement else None
        answers = [asdict(one) for one in verdict.answers]
        say(
            {"file": str(path), "is_good": verdict.is_good, "answers": answers, "summary": summary},
            "",
            as_json=True,
        )
    else:
        for one in verdict.answers:
            say(None, f"{'ok ' if one.is_good else 'BAD'}  {one.about:<10} {one.sentence}", as_json=False)
    if not verdict.is_good:
        complain(f"{path} did not pass.")
    return 0 if verdict.is_good else 1


def replay(path: Path, files: Sequence[Path], *, code: Path, points: int, as_json: bool) -> None:
    """In the place of this process: what trains needs torch, and this one does not."""
    if importlib.util.find_spec("torch") is None:
        raise MissingPackage(
            "A replay trains on this machine, which needs torch: pip install 'heimdall[torch]'"
        )
    if len(files) > 1:
        raise InvalidInput(
            {"file": ["With --replay, give one checkpoint to begin with, or none for step 0."]}
        )
    options = ["--code", str(code), "--points", str(points), *(["--json"] if as_json else [])]
    sys.stdout.flush()
    words = [sys.executable, "-m", "heimdall.check.again", *options, str(path), *map(str, files)]
    os.execv(sys.executable, words)


def _text_of(key: str) -> str:
    path = Path(key)
    try:
        return path.read_text("ascii") if path.is_file() else key
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput({"key": [f"{key} cannot be read as a key."]}) from error
