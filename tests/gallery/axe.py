"""Asks axe-core what stands in the way of people who see, hear or point differently.

`make axe` asks every page in both themes, on a real server with jobs in every state.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tests.gallery.stage import SHOTS, THEMES, staged

SOURCE = Path(__file__).parents[1] / "vendor" / "axe" / "axe.min.js"
GRAVE = {"serious", "critical"}


def findings(page: Any, *, but: str = "") -> list[str]:
    """What axe finds serious or critical on the page as it is now, each with where. `but`: a rule to leave out."""
    page.evaluate(SOURCE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{problem['impact']}: {problem['help']} ({problem['id']}): {node['html'][:160]}"
        for problem in found
        if problem["impact"] in GRAVE and problem["id"] != but
        for node in problem["nodes"]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    known = [shot.name for shot in SHOTS]
    parser.add_argument("names", nargs="*", help=f"of pages; all without any: {', '.join(known)}")
    names = parser.parse_args().names
    if unknown := set(names) - set(known):
        parser.error(f"there is no page {', '.join(sorted(unknown))}")
    shots = [shot for shot in SHOTS if not names or shot.name in names]
    num_found = 0
    with staged() as stage:
        for theme in THEMES:
            for shot in shots:
                with stage.open(shot, theme=theme) as page:
                    problems = findings(page, but=shot.not_ours)
                num_found += len(problems)
                print(
                    f"{shot.name:16} {theme:6} {len(problems) or 'nothing serious'}", *problems, sep="\n    "
                )
    print(f"{len(shots)} pages in {len(THEMES)} themes: {num_found} serious or critical findings")
    return 1 if num_found else 0


if __name__ == "__main__":
    sys.exit(main())
