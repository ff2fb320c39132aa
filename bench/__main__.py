"""Measure all that docs/performance.md claims, and print it as one table: `make bench`, `make bench ONLY=loop,reads`.

A group that fails prints its error, and the rest goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from bench.figure import Figure
from bench.groups import GROUPS, ROOT
from bench.runs import over

HEADER = ("group", "figure", "aim", "measured", "", "peer", "note")
PACKAGES = (
    "torch",
    "Django",
    "djangorestframework",
    "django-q2",
    "uvicorn",
    "lightning",
    "transformers",
    "accelerate",
)
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"some of: {', '.join(GROUPS)}")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--runs", type=int, default=1, help="whole runs; the median of them keeps an aim")
    given = parser.parse_args()
    wanted = [name for name in given.only.split(",") if name] or list(GROUPS)
    if unknown := [name for name in wanted if name not in GROUPS]:
        parser.error(f"no group is called {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    began = time.monotonic()
    about = surroundings()
    figures = over([whole_run(wanted, number) for number in range(1, max(given.runs, 1) + 1)])
    if given.runs > 1:
        about.append(f"median [quartiles] of {given.runs} whole runs")
    about.append(f"took {time.monotonic() - began:.0f} s, load average afterwards {os.getloadavg()[0]:.1f}")
    text = "\n".join([*about, "", *table(figures)])
    print(text)
    if given.write:
        write(text, wanted)
    return 0


def whole_run(wanted: list[str], number: int) -> list[Figure]:
    figures = []
    for name in wanted:
        print(f"run {number}: measuring {name} ...", file=sys.stderr, flush=True)
        figures += measured(name)
    return figures


def measured(name: str) -> list[Figure]:
    try:
        return GROUPS[name]()
    except Exception as error:  # one group must not cost the others
        return [
            Figure(name, "could not be measured", None, "", note=f"{type(error).__name__}: {error}"[:200])
        ]


def surroundings() -> list[str]:
    """Date, machine, versions and load: without them a time means nothing."""
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_processor()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, load average before {os.getloadavg()[0]:.1f}",
        ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    ]


def table(figures: list[Figure]) -> list[str]:
    rows = [HEADER, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def write(text: str, wanted: list[str]) -> None:
    """Put the table in the place of the last one."""
    page = PAGE.read_text()
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    command = "make bench" + ("" if wanted == list(GROUPS) else f" ONLY={','.join(wanted)}")
    PAGE.write_text(f"{before}{BEGIN}\n\n`{command}`: {text}\n\n{END}{after}")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
