"""How the pages write things: numbers, times, states, and the buttons of a job. live.js writes the same way."""

from __future__ import annotations

import math
import shlex
from datetime import datetime
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString

from training.lifecycle import JobType, Status, Stop, describe
from training.presentation.job_buttons import Button, JobLink, buttons_of, links_of
from training.presentation.log_colors import shown_log

register = template.Library()
register.simple_tag(shown_log)
NOTHING = "\u2013"
ELSEWHERE = "trained elsewhere"
LONGEST_COMMAND = 80  # of which a list shows everything


@register.simple_tag
def buttons(job: dict[str, Any], compact: bool = False) -> dict[str, list[Button]]:
    return buttons_of(job, bool(compact))


@register.simple_tag
def links(job: dict[str, Any], may_edit: bool = False, compact: bool = False) -> dict[str, list[JobLink]]:
    return links_of(job, may_edit=bool(may_edit), compact=bool(compact))


@register.simple_tag
def icon(name: str) -> SafeString:
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>', static("heimdall/icons.svg"), name
    )


@register.simple_tag
def spark_of(sparks: dict[int, Any], job: dict[str, Any]) -> Any:
    """The small curve of the job; None where it has none yet."""
    return sparks.get(job["id"])


@register.filter
def state_word(job: dict[str, Any]) -> str:
    return describe(Status(job["status"]), Stop(job["stop"]["kind"] if job["stop"] else ""))


@register.filter
def state_icon(job: dict[str, Any]) -> str:
    word = state_word(job)
    return {"paused": "pause", "cancelling": "cancelled", "preempted": "queued"}.get(word, word)


@register.filter
def state_key(job: dict[str, Any]) -> str:
    """Changes when something changes that live.js does not write by itself. The same expression stands there."""
    stop = job["stop"] or {"kind": "", "at": ""}
    verbs, tags = " ".join(job["verbs"]), " ".join(job["tags"])
    # Which a program may tell when it has started, and its steps when its loader is known.
    length = f"{job['total_epochs']}/{int(bool(job['total_steps']))}"
    parts = (
        job["status"],
        stop["kind"],
        stop["at"],
        verbs,
        job["attempt"],
        job["job_name"],
        job["priority"],
        tags,
        length,
    )
    return "|".join(map(str, parts))


_EVENT_ICONS = {
    "submit": "plus", "import": "download", "edit": "edit", "pin": "pin", "pause": "pause", "resume": "resume",
    "restart": "restart", "cancel": "cancelled", "discard": "cancelled", "delete": "delete", "preempt": "queued",
    "claim": "running", "start": "running", "complete": "completed", "fail": "failed", "crash": "failed",
    "reap": "failed", "quarantine": "failed", "checkpoint_failed": "failed", "checkpoint_left_out": "failed",
    "loss_not_finite": "failed", "replay_differs": "failed", "rollback": "restart",
    "verify_equal": "completed", "verify_differs": "failed", "verify_failed": "failed",
}  # fmt: skip
_TROUBLE = frozenset(kind for kind, shown in _EVENT_ICONS.items() if shown == "failed")


@register.filter
def event_icon(event: dict[str, Any]) -> str:
    """Of what happened; of where it landed; a dot for what is routine."""
    landed = {"paused": "pause", "queued": "queued", "cancelled": "cancelled"}
    if event["kind"] == "land":
        return landed.get(event["status"], "dot")
    return _EVENT_ICONS.get(event["kind"], "dot")


@register.filter
def event_tone(event: dict[str, Any]) -> str:
    if event["kind"] in _TROUBLE:
        return "bad"
    return "good" if event["kind"] == "complete" else ""


@register.filter
def more(job: dict[str, Any]) -> str:
    """What the headline says after the word of the badge beside it; why a job waits; that a job had enough."""
    headline = job["headline"].removeprefix(state_word(job)).lstrip(", ")
    if job["status"] == Status.COMPLETED and job["recipe"] and job["current_epoch"] < job["total_epochs"]:
        headline = "stopped early"
    waits = job["waiting"]["message"] if job.get("waiting") else ""
    return ". ".join(filter(None, (headline, waits)))


@register.filter
def row_more(job: dict[str, Any]) -> str:
    """The same in a row of the list, where a failed job has no room but for the first line of why."""
    if job["status"] == Status.FAILED:
        return (job["error_message"] or job["error_code"]).partition("\n")[0]
    return more(job)


@register.filter
def has_length(job: dict[str, Any]) -> bool:
    """Whether it is known how long it is to go on: a program need not say it."""
    return bool(job["total_epochs"] or job["total_steps"] or job["job_type"] == JobType.SYNTHETIC_DATA)


@register.filter
def runs(job: dict[str, Any]) -> str:
    """What the job runs, in one line: its recipe, or its program's command."""
    command = shlex.join(job["program"]["command"]) if job["program"] else job["recipe"] or ELSEWHERE
    return command if len(command) <= LONGEST_COMMAND else f"{command[:LONGEST_COMMAND]}..."


@register.filter
def progress_words(job: dict[str, Any]) -> str:
    if job["total_epochs"]:
        return f"epoch {count(job['current_epoch'])} of {count(job['total_epochs'])}"
    if job["job_type"] == JobType.SYNTHETIC_DATA:
        return f"{count(job['current_step'])}{of(job['total_steps'])} shards"
    steps = f"step {count(job['current_step'])}{of(job['total_steps'])}"
    return f"epoch {count(job['current_epoch'])}, {steps}" if job["current_epoch"] else steps


@register.filter
def of_total_steps(job: dict[str, Any]) -> str:
    """Empty where a training ended early: "step 675 of 900" beside a full bar would be a riddle."""
    return "" if _ended_early(job) else of(job["total_steps"])


@register.filter
def of_total_epochs(job: dict[str, Any]) -> str:
    return ", stopped early" if _ended_early(job) else of(job["total_epochs"])


def _ended_early(job: dict[str, Any]) -> bool:
    is_short = job["current_epoch"] < job["total_epochs"] or job["current_step"] < (job["total_steps"] or 0)
    return job["status"] == Status.COMPLETED and is_short


@register.filter
def epoch_percent(job: dict[str, Any]) -> float:
    """How far the epoch under way is. A finished epoch shows full until the next one has a step."""
    if not job["total_steps"] or not job["total_epochs"]:
        return 0.0
    steps = job["total_steps"] / job["total_epochs"]
    inside = job["current_step"] - job["current_epoch"] * steps
    full = inside <= 0 and job["current_epoch"] > 0
    return 100.0 if full else round(100.0 * min(max(inside / steps, 0.0), 1.0), 2)


@register.filter
def count(value: Any) -> str:
    return NOTHING if value is None else f"{value:,}"


@register.filter
def at_least(value: Any) -> str:
    """A count of job_list.py: "1,000+" where there are more."""
    return count(value.jobs) + ("" if value.is_exact else "+")


@register.filter
def of(value: int | None) -> str:
    return "" if value is None else f" of {value:,}"


@register.filter
def at_epoch(value: int | None) -> str:
    return "" if value is None else f", epoch {value:,}"


@register.filter
def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{math.floor(value * 10 + 1e-6) / 10:.1f} %"


@register.filter
def words(name: str) -> str:
    """A recipe's name for a value, as people write it."""
    return name.replace("_", " ")


@register.filter
def loss(value: Any) -> str:
    """Four digits that matter, zeros kept, so that a column does not jump."""
    return _number(value, keep_zeros=True)


@register.filter
def number(value: Any) -> str:
    return _number(value, keep_zeros=False)


def _number(value: Any, *, keep_zeros: bool) -> str:
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING if value is None else str(value)
    if not math.isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e6:
        digits, _, exponent = f"{value:.3e}".partition("e")
        return f"{digits if keep_zeros else digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    if isinstance(value, int):
        return f"{value:,}"
    whole = math.floor(math.log10(abs(value))) + 1 if value else 1
    text = f"{value:.{max(4 - whole, 0)}f}"
    return text if keep_zeros or "." not in text else text.rstrip("0").rstrip(".")


@register.filter
def duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 600:
        return f"{total // 60} min {total % 60:02d} s"
    if total < 3_600:
        return f"{total // 60} min"
    if total < 86_400:
        return f"{total // 3_600} h {total % 3_600 // 60:02d} min"
    return f"{total // 86_400} d {total % 86_400 // 3_600} h"


@register.filter
def iso(moment: datetime | str | None) -> str:
    found = _moment(moment)
    return found.isoformat(timespec="seconds").replace("+00:00", "Z") if found else ""


@register.filter
def clock(moment: datetime | str | None) -> str:
    found = _moment(moment)
    return timezone.localtime(found).strftime("%b %d, %H:%M:%S") if found else NOTHING


@register.simple_tag
def when(moment: datetime | str | None) -> SafeString | str:
    """A time that live.js turns into "3 min ago"; without it the absolute time stands there."""
    found = _moment(moment)
    if found is None:
        return NOTHING
    shown = timezone.localtime(found).strftime("%Y-%m-%d %H:%M")
    return format_html('<time datetime="{}" data-ago>{}</time>', iso(found), shown)


@register.filter
def unlocal(value: Any) -> str:
    """A number as HTML attributes want it."""
    return str(value if value is not None else 0)


def _moment(moment: datetime | str | None) -> datetime | None:
    return parse_datetime(moment) if isinstance(moment, str) else moment
