"""The badge of a job: what is known of its training, as a small picture for pages elsewhere."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils.html import escape

_COLORS = {"replayed": "#1a7f37", "checked": "#0b62a8", "not shown": "#57606a", "differs": "#b3261e"}
_LEFT = "training"
_WIDTH_OF_SIGN = 6.6

_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{label}">
<title>{label}</title>
<rect width="{width}" height="20" rx="3" fill="#24292f"/>
<path d="M{left} 0h{right}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right}z" fill="{color}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="7" y="14">{word}</text>
<text x="{begin}" y="14">{state}</text>
</g>
</svg>
"""


def badge(evidence: str, counted: dict[str, Any]) -> HttpResponse:
    """`counted`: what replays have shown, as the job keeps it."""
    state = evidence
    if evidence == "replayed" and counted.get("steps"):
        percent = 100 * counted["steps_replayed"] // counted["steps"]
        state = f"replayed {percent} %"
    left, right = _width(_LEFT), _width(state)
    text = _SVG.format(
        width=left + right,
        left=left,
        right=right - 3,
        color=_COLORS[evidence],
        word=_LEFT,
        begin=left + 7,
        state=escape(state),
        label=escape(f"{_LEFT}: {state}"),
    )
    return HttpResponse(text, content_type="image/svg+xml", headers={"Cache-Control": "no-cache"})


def _width(word: str) -> int:
    return round(len(word) * _WIDTH_OF_SIGN) + 14
