"""WCAG AA, computed from the sheet's own colours: 4.5 for text, 3 for the edges of controls and for bars."""

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[2] / "static/heimdall/app.css").read_text()
COLOURS = dict(re.findall(r"--([a-z-]+): light-dark\((#\w{6}, #\w{6})\);", CSS))
TEXT = [
    *(
        (ink, ground)
        for ink in ("ink", "soft", "accent")
        for ground in ("ground", "surface", "raised", "sunken")
    ),
    *((tone, f"{tone}-wash") for tone in ("accent", "good", "warn", "bad")),
    *((tone, "surface") for tone in ("good", "warn", "bad")),
    *(("ink", f"{tone}-wash") for tone in ("accent", "good", "warn", "bad")),
    ("accent-ink", "accent"),
    ("ground", "ink"),
    ("soft", "accent-wash"),
    ("bad", "raised"),
]
SHAPES = [
    ("line-strong", "surface"),
    ("line-strong", "ground"),
    ("line-strong", "raised"),
    ("accent", "bar"),
    ("warn", "bar"),
]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str, theme: int) -> float:
    bright, dark = sorted(
        (luminance(COLOURS[name].split(", ")[theme]) for name in (one, other)), reverse=True
    )
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("one", "other", "least"), [(*pair, 4.5) for pair in TEXT] + [(*pair, 3.0) for pair in SHAPES]
)
def test_colours_can_be_told_apart(one, other, least, theme):
    assert contrast(one, other, theme) >= least
