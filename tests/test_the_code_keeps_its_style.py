"""Sizes and names that keep the code readable: of classes, functions, files, modules, scripts and style sheets."""

import ast
from collections import defaultdict
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
# A name that a framework or the registry of recipes looks for, so that it stands once a file.
PRESCRIBED = {"Command", "Config", "Media", "Meta", "Migration", "Recipe"}
LONGEST_FILE, LONGEST_SHEET = 450, 650  # a style sheet has one property a line
LONGEST_FUNCTION, MEDIAN_FUNCTION = 75, 6
MOST_TOP_MODULES = 10
LONGEST_WEB_LINE = 120

CODE = [
    path
    for wing in ("heimdall", "training")
    for path in sorted((ROOT / wing).rglob("*.py"))
    if "migrations" not in path.parts
]
TREES = {path: ast.parse(path.read_text()) for path in CODE}
WEB = sorted([*(ROOT / "static/heimdall").glob("*.js"), *(ROOT / "static/heimdall").glob("*.css")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions() -> list[tuple[str, int]]:
    return [
        (f"{name_of(path)}: {node.name}", node.end_lineno - node.lineno + 1)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_a_class_name_stands_once_in_the_project():
    homes = defaultdict(list)
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name not in PRESCRIBED:
                homes[node.name].append(name_of(path))
    assert not {name: files for name, files in homes.items() if len(files) > 1}


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_is_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


def test_functions_are_short():
    found = functions()
    assert len(found) > 1_000
    assert median(lines for _, lines in found) <= MEDIAN_FUNCTION
    assert not [(name, lines) for name, lines in found if lines > LONGEST_FUNCTION]


def test_few_modules_lie_at_the_top_of_the_app():
    top = {path.name for path in (ROOT / "training").glob("*.py")} - {"__init__.py"}
    assert len(top) <= MOST_TOP_MODULES, sorted(top)


@pytest.mark.parametrize("path", WEB, ids=name_of)
def test_scripts_and_styles_have_short_lines_and_a_sane_size(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= (LONGEST_FILE if path.suffix == ".js" else LONGEST_SHEET)
    assert not [number for number, line in enumerate(lines, 1) if len(line) > LONGEST_WEB_LINE]
