"""What answers say of unseen receivers, and what the tables promise, is what docs/localization.md has measured."""

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("name", ["default", "late"])
def test_the_network_is_as_near_to_the_reference_as_the_page_promises(name):
    ratios = re.search(r"([\d.]+) at the median .*?([\d.]+) at p95", block(name))
    assert ratios is not None
    assert float(ratios[1]) <= 1.05
    assert float(ratios[2]) <= 1.10
    assert "Bayes-optimal reference" in block(name)
    assert "The integration's error" in block(name)


@pytest.mark.parametrize("name", ["default", "late"])
def test_ellipses_hold_what_they_say_by_size_and_by_number_of_receivers(name):
    rows = [cells(row) for row in block(name).splitlines() if row.startswith("| ")]
    by_size = [row[2:4] for row in rows if row[0] == "all" or row[0].endswith(("quarter", "ellipses"))]
    by_number = [row[2:4] for row in rows if re.fullmatch(r"\d+", row[0]) and int(row[1]) >= 1000]
    assert len(by_size) == 5
    assert len(by_number) >= 4
    for row in [*by_size, *by_number]:
        for said, share in zip(row, (68.0, 95.0), strict=True):
            assert abs(float(said.removesuffix(" %")) - share) <= 1.5, row
