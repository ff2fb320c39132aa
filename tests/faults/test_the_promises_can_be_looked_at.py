"""Each command in docs/reliability.md runs something: tests that exist, modules that exist, targets that exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()
COMMANDS = sorted(set(re.findall(r"`((?:[A-Z]+=\d+ )?(?:pytest|make|python -m) [^`]+)`", TEXT)))
TESTS = [
    f"{path.relative_to(ROOT)}::{node.name}"
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
]


def selected(words: list[str]) -> list[str]:
    """The tests that pytest would choose: below a path, and by -k."""
    wanted = Expression.compile(words[words.index("-k") + 1]) if "-k" in words else None
    places = words[: words.index("-k")] if wanted else words
    found = [name for name in TESTS if any(name.startswith(place) for place in places)]
    return [
        name for name in found if wanted is None or wanted.evaluate(lambda word, name=name, **_: word in name)
    ]


def test_there_are_many():
    assert len(COMMANDS) > 20


def rows_of_faults() -> list[tuple[int, list[str]]]:
    """The number of each fault in the table, and the tests that it names."""
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", TEXT, re.MULTILINE)
    return [(int(number), re.findall(r"`([^`]+)`", tests)) for number, tests in rows]


def test_every_fault_has_its_row_and_each_names_tests_that_there_are_once():
    rows = rows_of_faults()
    assert [number for number, _ in rows] == list(range(1, 50))
    known = Counter(name.partition("::")[2] for name in TESTS)
    for number, named in rows:
        assert named, number
        assert {name: known[name] for name in named} == dict.fromkeys(named, 1), number


def rows_of_failures() -> list[str]:
    """What was tried and failed before, a row each, without the head of the table."""
    (section,) = re.findall(r"^## What was tried and failed before$(.*?)^## ", TEXT, re.MULTILINE | re.DOTALL)
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def is_there(name: str) -> bool:
    """A file of tests, by its path or its name alone, or one test by its name."""
    return any(name in re.split("::|/", test) or test.startswith(f"{name}::") for test in TESTS)


def test_every_failure_of_before_names_tests_that_there_are():
    assert len(rows_of_failures()) > 30
    for row in rows_of_failures():
        named = re.findall(r"`([^`]+)`", row.rstrip(" |").rpartition(" | ")[2])
        assert named, row
        assert [name for name in named if not is_there(name)] == [], row


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs_something(command):
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z]+=\d+", word)]
    match words:
        case ["pytest", *rest]:
            assert selected(rest)
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module)
        case _:
            raise AssertionError(command)
