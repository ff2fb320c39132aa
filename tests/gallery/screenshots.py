"""`make screenshots`: a picture of every page, light and dark, on a desktop and a phone, into docs/images/pages/.

docs/pages.md says by a mark where each picture belongs; the lines after the marks are written here.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
import time
from pathlib import Path
from typing import Any

from tests.gallery.stage import SHOTS, SIZES, THEMES, staged

DOCS = Path(__file__).parents[2] / "docs"
FOLDER, PAGES = DOCS / "images" / "pages", DOCS / "pages.md"
MARK = re.compile(r"<!-- picture of ([\w-]+): (.*) -->\n(?:!?\[.*\n)*")
QUALITY = 60
TALLEST = {"desktop": 1_250, "phone": 1_500}  # of a page that is longer, the upper part
MOST_BYTES = 3_200_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of pages; all without any")
    parser.add_argument("--into", type=Path, default=FOLDER)
    wanted = parser.parse_args()
    shots = [shot for shot in SHOTS if not wanted.names or shot.name in wanted.names]
    wanted.into.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with staged() as stage:
        print(f"staged in {time.monotonic() - started:.0f} s")
        for shot in shots:
            for size in SIZES:
                for theme in THEMES:
                    with stage.open(shot, theme=theme, size=size) as page:
                        file = wanted.into / file_name(shot.name, size, theme)
                        file.write_bytes(picture(page, size))
                        print(f"{file.name} {file.stat().st_size // 1000} kB")
    total = sum(file.stat().st_size for file in wanted.into.glob("*.webp"))
    print(f"{total / 1e6:.2f} MB in all")
    if wanted.into == FOLDER:
        PAGES.write_text(with_pictures(PAGES.read_text()))
    return 1 if total > MOST_BYTES else 0


def file_name(shot: str, size: str, theme: str) -> str:
    return f"{shot}-{size}-{theme}.webp"


def with_pictures(text: str) -> str:
    """The text of docs/pages.md with the pictures that there are, each behind its mark."""
    return MARK.sub(lambda mark: mark[0].partition("\n")[0] + "\n" + _lines(mark[1], mark[2]), text)


def _lines(shot: str, words: str) -> str:
    files = {(size, theme): file_name(shot, size, theme) for size in SIZES for theme in THEMES}
    if not all((FOLDER / name).exists() for name in files.values()):
        return ""
    first, *others = (f"images/pages/{name}" for name in files.values())
    links = zip(("Dark", "phone", "phone, dark"), others, strict=True)
    return f"![{words}]({first})\n" + ", ".join(f"[{word}]({name})" for word, name in links) + "\n"


def picture(page: Any, size: str) -> bytes:
    """The page as WebP, which Playwright itself does not make."""
    width, height = SIZES[size]
    height = min(max(page.evaluate("document.documentElement.scrollHeight"), height), TALLEST[size])
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(300)
    options = {"format": "webp", "quality": QUALITY}
    taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", options)
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    sys.exit(main())
