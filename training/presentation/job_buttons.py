"""The buttons and links of a job: its verbs, and what can be made from it. Pages and the admin show the same ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.urls import reverse

from training.lifecycle import JobType, Status, Stop, Verb

_FINISHED = {Status.COMPLETED, Status.FAILED, Status.CANCELLED}


@dataclass(frozen=True)
class Button:
    """One verb as a button: what it says, and how it looks."""

    verb: str
    label: str
    icon: str
    css: str = ""
    disabled: bool = False
    why: str = ""

    @property
    def calm(self) -> Button:
        """The same where there are many: it does not call for attention."""
        return replace(self, css=self.css.replace("main", ""))


_BUTTONS = (
    Button("resume", "Resume", "resume", "main"),
    Button("pause", "Pause", "pause"),
    Button("restart", "Restart", "restart"),
    Button("cancel", "Cancel", "cancelled"),
    Button("discard", "Discard", "cancelled", "danger"),
    Button("delete", "Delete", "delete", "danger"),
)
_NO_DELETE = Button(
    "delete",
    "Delete",
    "delete",
    "danger",
    True,
    "A paused job cannot be deleted. Resume it, or discard it first.",
)


def buttons_of(job: dict[str, Any], compact: bool = False) -> dict[str, list[Button]]:
    """The buttons beside a job and those in its menu: exactly the verbs, and for a paused job Delete, disabled."""
    shown = [_relabelled(button, job) for button in _BUTTONS if button.verb in job["verbs"]]
    if Verb.DISCARD in job["verbs"]:
        shown.append(_NO_DELETE)
    beside = _beside_a_row(job["verbs"]) if compact else {button.verb for button in shown} - _in_menu(job)
    if compact:
        shown = [button.calm for button in shown]
    return {
        "main": [button for button in shown if button.verb in beside],
        "menu": [button for button in shown if button.verb not in beside],
    }


def _in_menu(job: dict[str, Any]) -> set[Verb]:
    """What cannot be taken back is never the button that a hand falls on first; a paused job says why it has none."""
    return {Verb.DISCARD} if Verb.DISCARD in job["verbs"] else {Verb.DELETE}


def verb_button(verb: str) -> Button:
    """The button of a verb, whatever job it is for."""
    return next(button for button in _BUTTONS if button.verb == verb).calm


def _beside_a_row(verbs: list[str]) -> set[str]:
    """A row of the list has room for one button: the way back where there is one."""
    return {Verb.RESUME} if Verb.RESUME in verbs else {Verb.PAUSE}


def _relabelled(button: Button, job: dict[str, Any]) -> Button:
    if job["stop"] and button.verb == Verb.RESUME:
        return Button("resume", "Keep training", "resume")
    if job["stop"] and job["stop"]["kind"] == Stop.PAUSE and button.verb == Verb.PAUSE:
        return Button("pause", "Pause sooner", "pause")
    return button


@dataclass(frozen=True)
class JobLink:
    """A page that makes something from the job, or changes how it is described."""

    label: str
    icon: str
    address: str
    is_next: bool = False
    """What a person usually wants of a finished job: it stands beside the verbs then."""


def links_of(job: dict[str, Any], *, may_edit: bool, compact: bool = False) -> dict[str, list[JobLink]]:
    """The links beside a job and those in its menu: a finished job has what comes next beside it."""
    found = [link for link in _links(job) if link is not None]
    if may_edit:
        found.append(JobLink("Edit name, notes and tags", "edit", reverse("job-edit", args=[job["id"]])))
    is_shown = not compact and job["status"] in _FINISHED
    return {
        "main": [link for link in found if link.is_next and is_shown],
        "menu": [link for link in found if not (link.is_next and is_shown)],
    }


def _links(job: dict[str, Any]) -> tuple[JobLink | None, ...]:
    number, is_ours = job["id"], job["job_type"] != JobType.EXTERNAL
    can_fork = job["job_type"] == JobType.TRAINING and job["checkpoint"]
    is_script = bool(job["program"]) and job["program"]["kind"] == "script"
    return (
        JobLink("Clone", "clone", f"{reverse('job-new')}?from={number}", is_next=True) if is_ours else None,
        JobLink("Extend", "extend", reverse("job-extend", args=[number]), is_next=True)
        if is_extendable(job)
        else None,
        JobLink("Fork", "fork", reverse("job-fork", args=[number]), is_next=True) if can_fork else None,
        JobLink("Check exactness", "completed", reverse("job-check", args=[number])) if is_script else None,
    )


def is_extendable(job: dict[str, Any]) -> bool:
    """Whether more epochs can be asked for; a program takes them where its settings have epochs."""
    is_one = job["status"] == Status.COMPLETED and job["job_type"] != JobType.EXTERNAL
    return bool(is_one and job["total_epochs"]) and bool(job["recipe"] or job["config"].get("epochs"))
