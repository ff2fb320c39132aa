"""What runs inside trainings and on laptops needs no newer Python than 3.10; `make oldest` trains there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import vermin

ROOT = Path(__file__).parents[2]
FILES = [path for path in (ROOT / "heimdall").rglob("*.py") if (ROOT / "heimdall/site") not in path.parents]


def oldest_for(source: str) -> tuple[int, ...]:
    """The first Python 3 that has all that this source uses."""
    visitor = vermin.visit(source, vermin.Config())
    return tuple(visitor.minimum_versions()[1] or (3, 0))


def test_no_file_outside_the_server_needs_more_than_3_10():
    needs = {path.relative_to(ROOT): oldest_for(path.read_text()) for path in FILES}
    assert {path: version for path, version in needs.items() if version > (3, 10)} == {}
    assert len(needs) > 100


def test_what_needs_more_would_be_seen():
    assert oldest_for("from typing import Self") == (3, 11)
    assert oldest_for("from enum import StrEnum") == (3, 11)


def test_an_older_python_may_install_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.10"
