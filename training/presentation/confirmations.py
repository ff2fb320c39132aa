"""What the pages and the admin ask before a verb: the title, the sentence, the choices and the buttons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.lifecycle import JobType, Status, Stop, StopAt, Verb


@dataclass(frozen=True)
class Choice:
    value: str
    label: str
    text: str
    checked: bool = False


@dataclass(frozen=True)
class Question:
    """A confirmation as people read it."""

    title: str
    text: str
    button: str
    icon: str
    css: str = "main"
    keep: str = "Go back"
    choices: tuple[Choice, ...] = ()


def question(job: dict[str, Any], verb: str) -> Question:
    """What to ask before the verb is done to the job (a dict of queries.job_dict)."""
    return _ASKERS[Verb(verb)](job, f"job {job['id']}, {job['job_name']}")


def taking_back(job: dict[str, Any], step: int, epoch: int) -> Question:
    """What to ask before a job is resumed from an older checkpoint: what is given up, and what is not."""
    lost = max(job["current_step"] - step, 0)
    text = (
        f"It is queued and goes on from epoch {epoch}, step {step}. The {lost:,} steps after it are discarded: their "
        "metrics are removed and they are trained again. Newer checkpoints stay for a while, as those of a discarded "
        "job, but nothing starts from them any more. With the same settings the same steps come out; to change "
        "settings, fork instead."
    )
    return Question(
        f"Resume job {job['id']}, {job['job_name']}, from step {step}?", text, "Resume from here", "resume",
        "danger solid", "Go back",
    )  # fmt: skip


def question_for_many(verb: str, how_many: int) -> Question:
    """What to ask before a verb is done to several jobs at once."""
    noun = f"{how_many} job" + ("" if how_many == 1 else "s")
    word = str(verb).capitalize()
    text = "Jobs whose state does not allow it are left as they are, and are named afterwards."
    css = "danger solid" if verb in {Verb.CANCEL, Verb.DISCARD, Verb.DELETE} else "main"
    choices = _when() if verb == Verb.PAUSE else ()
    keep = _KEEPS.get(Verb(verb), "Go back")
    return Question(f"{word} {noun}?", text, f"{word} {noun}", _ICONS[Verb(verb)], css, keep, choices)


# The button that leaves everything as it is says what then goes on: "Cancel" beside "Cancel" would be a riddle.
_KEEPS = {
    Verb.PAUSE: "Keep running",
    Verb.CANCEL: "Keep running",
    Verb.DISCARD: "Keep paused",
    Verb.DELETE: "Keep",
}
_ICONS = {
    Verb.PAUSE: "pause",
    Verb.RESUME: "resume",
    Verb.RESTART: "restart",
    Verb.CANCEL: "cancelled",
    Verb.DISCARD: "cancelled",
    Verb.DELETE: "delete",
}


def _when(epoch: int | None = None, sooner: bool = False) -> tuple[Choice, ...]:
    end = "At the end of the epoch" if epoch is None else f"At the end of epoch {epoch}"
    return (
        Choice(
            StopAt.EPOCH.value,
            end,
            "The usual choice: the epoch is finished and validated first.",
            not sooner,
        ),
        Choice(
            StopAt.STEP.value,
            "At the next step",
            "Frees the device in seconds; the result is the same.",
            sooner,
        ),
    )


def _pause(job: dict[str, Any], name: str) -> Question:
    if job["status"] == Status.QUEUED:
        text = "It stays where it is and is not started until somebody resumes it."
        return Question(f"Pause {name}?", text, "Pause", "pause")
    text = "A checkpoint is stored, then the device is free. Resumed later, it goes on as if nothing had happened."
    sooner = bool(job["stop"] and job["stop"]["kind"] == Stop.PAUSE)
    if job["program"] and job["program"]["kind"] == "command":
        return Question(
            f"Pause {name}?", _of_a_command(job["program"]), "Pause", "pause", keep="Keep running"
        )
    following = job["current_epoch"] + 1
    epoch = min(following, job["total_epochs"]) if job["total_epochs"] else following
    return Question(
        f"Pause {name}?", text, "Pause", "pause", keep="Keep running", choices=_when(epoch, sooner)
    )


def _of_a_command(program: dict[str, Any]) -> str:
    asked = (
        f"It is sent SIG{program['pause_signal']} and has {program['grace_seconds']:g} s to leave; then it is "
        "ended, and the device is free."
    )
    if program["checkpoint_folder"]:
        return f"{asked} Its checkpoint folder is kept: resumed later, it goes on from what it saved there itself."
    return f"{asked} It keeps nothing, so that resumed later it begins again."


def _resume(job: dict[str, Any], name: str) -> Question:
    if job["status"] == Status.RUNNING:
        text = "The request to pause is withdrawn. The training was never stopped."
        return Question(f"Keep training {name}?", text, "Keep training", "resume")
    where = (
        f"epoch {job['checkpoint']['epoch']}, step {job['checkpoint']['step']}"
        if job["checkpoint"]
        else "step 0"
    )
    text = f"It is queued and goes on from {where}, as soon as a worker is free."
    return Question(f"Resume {name}?", text, "Resume", "resume")


def _restart(job: dict[str, Any], name: str) -> Question:
    text = "It begins again at step 0. Its metrics are removed; its checkpoints stay for a while."
    return Question(f"Restart {name}?", text, "Restart from step 0", "restart", "danger solid")


def _cancel(job: dict[str, Any], name: str) -> Question:
    text = "The training stops after the step under way."
    if job["status"] == Status.QUEUED:
        text = "It leaves the queue."
    elif job["job_type"] == JobType.EXTERNAL:
        text = "Nothing more is taken from it. The training itself goes on where it is: stop it there."
    keep = "Keep it queued" if job["status"] == Status.QUEUED else "Keep running"
    return Question(f"Cancel {name}?", text, "Cancel the job", "cancelled", "danger solid", keep)


def _discard(job: dict[str, Any], name: str) -> Question:
    text = "The paused job is given up and becomes cancelled. Its checkpoints stay for a while."
    return Question(f"Discard {name}?", text, "Discard", "cancelled", "danger solid", "Keep paused")


def _delete(job: dict[str, Any], name: str) -> Question:
    text = "The job, its history, its log and all of its checkpoints are removed. This cannot be undone."
    return Question(f"Delete {name}?", text, "Delete permanently", "delete", "danger solid", "Keep")


_ASKERS = {
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.RESTART: _restart,
    Verb.CANCEL: _cancel,
    Verb.DISCARD: _discard,
    Verb.DELETE: _delete,
}
