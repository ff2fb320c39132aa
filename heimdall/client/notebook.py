"""A job as a card in a notebook: HTML and SVG without JavaScript; with ipywidgets, its verbs as buttons too."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from heimdall.client.shapes import JobFields

WIDTH, HEIGHT = 420, 110
COLORS = ("#2f6fde", "#d9772b", "#3c9a5f", "#8a56c2")
STATUS_COLORS = {"running": "#2f6fde", "completed": "#3c9a5f", "failed": "#c23b3b", "paused": "#b8860b"}
BUTTONS = ("pause", "resume", "restart", "cancel", "discard")


class NotebookCard:
    """What a notebook shows of a job that stands at the end of a cell."""

    fields: JobFields
    curve: Callable[..., Any]
    last_curve: dict[str, Any] | None = None

    def _repr_html_(self) -> str:
        return card(self.fields, self._curve())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Each page takes the richest form that it can show."""
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if inspect.iscoroutinefunction(self.curve):
            return bundle
        try:
            widget = buttons_card(self)
        except ImportError:
            return bundle
        return {**widget._repr_mimebundle_(), **bundle}

    def _curve(self) -> dict[str, Any] | None:
        """Asked for where that can be waited for here; else the one that was read last."""
        if (
            self.last_curve is None
            and self.fields.current_step
            and not inspect.iscoroutinefunction(self.curve)
        ):
            self.curve(points=200)
        return self.last_curve


def card(job: JobFields, curve: dict[str, Any] | None = None) -> str:
    """HTML with its own styles. Everything that a person wrote is escaped."""
    color = STATUS_COLORS.get(job.status, "#667085")
    what = f'<span style="opacity:.6">#{job.id} {escape(job.recipe or "program")}</span>'
    state = f'<span style="float:right;color:{color};font-weight:600">{escape(job.headline)}</span>'
    return (
        '<div style="font:13px system-ui,sans-serif;border:1px solid #8884;border-radius:8px;padding:10px 14px;'
        'max-width:460px">'
        f"<div><b>{escape(job.job_name)}</b> {what}{state}</div>{bar(job.progress_percent, color)}"
        f'<div style="opacity:.75">{escape(", ".join(facts(job)))}</div>{svg(curve)}{_why(job)}</div>'
    )


def facts(job: JobFields) -> list[str]:
    """How far it is and what was measured last, in a few words each."""
    found = [f"step {job.current_step}" + (f" of {job.total_steps}" if job.total_steps else "")]
    found += [f"epoch {job.current_epoch} of {job.total_epochs}"] if job.total_epochs else []
    losses = (("loss", job.train_loss), ("validation", job.val_loss))
    found += [f"{name} {value:.4g}" for name, value in losses if value is not None]
    return found + ([f"{duration(job.eta_seconds)} left"] if job.eta_seconds else [])


def _why(job: JobFields) -> str:
    style = "color:#c23b3b;white-space:pre-wrap"
    return f'<div style="{style}">{escape(job.error_message[:600])}</div>' if job.error_message else ""


def bar(percent: float, color: str) -> str:
    return (
        '<div style="background:#8883;border-radius:4px;height:6px;margin:8px 0">'
        f'<div style="width:{min(max(percent, 0), 100):.1f}%;background:{color};height:6px;border-radius:4px">'
        "</div></div>"
    )


def svg(curve: dict[str, Any] | None) -> str:
    """The curves that were measured, each on the same axes; nothing where there is none yet."""
    drawn = [one for one in (curve or {}).get("series", []) if _points(one)]
    if not drawn:
        return ""
    every = [point for one in drawn for point in _points(one)]
    (left, right), (low, high) = _range([x for x, _ in every]), _range([y for _, y in every])
    lines, legend = [], []
    for number, one in enumerate(drawn):
        color = COLORS[number % len(COLORS)]
        path = " ".join(
            f"{(x - left) / (right - left) * WIDTH:.1f},{HEIGHT - (y - low) / (high - low) * HEIGHT:.1f}"
            for x, y in _points(one)
        )
        lines.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{path}"/>')
        legend.append(f'<span style="color:{color}">&#9644; {escape(one["metric"])}</span>')
    bounds = f'<span style="opacity:.6">{low:.4g} to {high:.4g}</span>'
    return (
        f'<svg viewBox="-2 -4 {WIDTH + 4} {HEIGHT + 8}" width="100%" role="img" aria-label="curves">'
        f'{"".join(lines)}</svg><div style="font-size:11px">{" ".join(legend)} {bounds}</div>'
    )


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def buttons_card(job: Any) -> Any:
    """The card with a button for each verb that may be asked now. Needs ipywidgets, and a job that is not async."""
    import ipywidgets

    shown, row, said = ipywidgets.HTML(), ipywidgets.HBox(), ipywidgets.Label()

    def draw() -> None:
        shown.value = card(job.fields, job._curve())
        row.children = [
            _button(verb) for verb in (*BUTTONS, "refresh") if verb in {"refresh", *job.fields.verbs}
        ]

    def _button(verb: str) -> Any:
        button = ipywidgets.Button(description=verb)
        button.on_click(lambda _: press(verb))
        return button

    def press(verb: str) -> None:
        from heimdall.errors import HeimdallError

        job.last_curve = None
        try:
            getattr(job, verb)()
            said.value = "" if verb == "refresh" else job.message
        except HeimdallError as error:
            said.value = str(error)
        draw()

    draw()
    return ipywidgets.VBox([shown, row, said])


def _points(series: dict[str, Any]) -> list[tuple[float, float]]:
    pairs: Sequence[tuple[Any, Any]] = list(zip(series["steps"], series["means"], strict=False))
    return [(x, y) for x, y in pairs if y is not None and math.isfinite(y)]


def _range(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
