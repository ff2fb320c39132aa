"""What answers say of unseen receivers, and what the tables promise, is what docs/localization.md has measured."""

import re
from pathlib import Path

from heimdall.recipes.localization.locating import layouts
from heimdall.recipes.localization.locating.layouts import MeasuredLayouts

PAGE = Path("docs/localization.md").read_text()


def block(name: str) -> str:
    return PAGE.partition(f"<!-- evaluate {name} -->")[2].partition(f"<!-- end of {name} -->")[0]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_answers_tell_the_errors_of_the_table():
    rows = re.findall(r"^\| (\d+) others, within (\d+) km \|(.*)\|", block("unseen"), re.MULTILINE)
    found = []
    for receivers, wide, rest in rows:
        half, most, _, _, classical_half, classical_most = [
            float(cell.removesuffix(" %")) for cell in cells(rest)[:6]
        ]
        found.append(
            MeasuredLayouts(int(receivers), float(wide), (half, most), (classical_half, classical_most))
        )
    assert tuple(found) == layouts.OF_FIXED
