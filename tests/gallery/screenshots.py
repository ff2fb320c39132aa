"""`make screenshots`: a picture of every page, light and dark, on a desktop and a phone, into docs/images/pages/."""

from __future__ import annotations

import argparse
import base64
import sys
import time
from pathlib import Path
from typing import Any

from tests.gallery.stage import SHOTS, SIZES, THEMES, Shot, staged

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "pages"
QUALITY = 60
TALLEST = {"desktop": 1_250, "phone": 1_500}  # of a page that is longer, the upper part
MOST_BYTES = 3_000_000


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
                        file = wanted.into / file_name(shot, size, theme)
                        file.write_bytes(picture(page, size))
                        print(f"{file.name} {file.stat().st_size // 1000} kB")
    total = sum(file.stat().st_size for file in wanted.into.glob("*.webp"))
    print(f"{total / 1e6:.2f} MB in all")
    return 1 if total > MOST_BYTES else 0


def file_name(shot: Shot, size: str, theme: str) -> str:
    return f"{shot.name}-{size}-{theme}.webp"


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
