"""What is sent to the API, made of what a person gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heimdall.client import answers
from heimdall.errors import InvalidInput

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet"}


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


def list_query(filters: Mapping[str, Any], tags: Iterable[str], where: str | Iterable[str]) -> dict[str, Any]:
    """What the list of jobs is asked for. Conditions are sent one by one: a text in them may hold a comma."""
    query = {name: joined(value) for name, value in filters.items() if value is not None}
    if wanted := list(tags):
        query["tags"] = ",".join(wanted)
    if conditions := [where] if isinstance(where, str) else list(where):
        query["where"] = conditions
    return query


def format_of(path: Path) -> str:
    """What kind of file its name says that it is."""
    if path.suffix.lower() not in FORMATS:
        raise InvalidInput(
            {"path": [f"A file for jobs ends with one of {', '.join(FORMATS)}: not {path.name!r}."]}
        )
    return FORMATS[path.suffix.lower()]
