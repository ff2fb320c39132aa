"""What is sent to the API, made of what a person gave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from heimdall.client import answers


def command_name(command: Sequence[str]) -> str:
    """What a program is called where nobody says: its script."""
    script = next(
        (word for word in command if word.endswith((".py", ".sh"))), command[0] if command else "program"
    )
    return Path(script).name


def about(
    name: str,
    description: str | None,
    priority: int | None,
    pool: str | None,
    tags: Iterable[str] | None,
    team: str | None,
) -> dict[str, Any]:
    found = answers.given(job_name=name, description=description, priority=priority, pool=pool, team=team)
    return found | ({"tags": list(tags)} if tags else {})


def joined(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else value
