"""What people read of a program: its command, how it is run, and what a pause of it is worth."""

from __future__ import annotations

import shlex
from typing import Any

from training.models import ExactnessCheck, TrainingJob
from training.presentation.program_forms import HOST
from training.queries import promise

PROMISE_MEANS = {
    "exact": "resumed later, it goes on bit for bit as if nothing had happened.",
    "not shown to be exact": "all that the script attached is restored; no check has shown that this is everything.",
    "its own checkpoints": "it goes on from what it saved itself in its checkpoint folder.",
    "none": "it keeps nothing: resumed later, it begins again.",
}
_HOOKS = {"hugging_face": "Hugging Face Trainer", "lightning": "Lightning Trainer"}


def _findings(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table of a check. A process printed what is read here: it may hold anything."""
    stops, controls = _those_of(list, result.get("stops")), _those_of(dict, result.get("controls"))
    rows = [("Steps trained", result.get("steps"))]
    rows += [("Stopped after step", ", ".join(map(str, plan))) for plan in stops]
    rows += [
        (f"Without {one.get('left_out')}", "noticed" if one.get("was_noticed") else "not noticed")
        for one in controls
    ]
    rows += [("First other step", result.get("first_step")), ("First difference", result.get("first_state"))]
    rows.append(("Values of all steps", str(result.get("values") or "")[:12]))
    return [(name, str(value)) for name, value in rows if value]


def _those_of(kind: type, values: Any) -> list[Any]:
    return [one for one in values if isinstance(one, kind)] if isinstance(values, list) else []


def program_of(job: TrainingJob) -> dict[str, Any] | None:
    """None where the job runs a recipe."""
    if not job.program:
        return None
    program = job.program
    facts = {
        "Folder": program["directory"],
        "Environment": program["environment"] or HOST,
        "Attached by itself": _HOOKS.get(program["hook"], ""),
    }
    if program["kind"] == "command":
        facts |= {
            "A pause sends": f"SIG{program['pause_signal']}, and waits {program['grace_seconds']:g} s",
            "Checkpoint folder": program["checkpoint_folder"],
            "Resume arguments": shlex.join(program["resume_arguments"]),
            "Metrics in its log": ", ".join(program["metric_patterns"]),
        }
    own_check = ExactnessCheck.objects.filter(job=job).first()
    return {
        "command": shlex.join(program["command"]),
        "promise": PROMISE_MEANS[promise(job)],
        "check": job.exactness_checks.exclude(verdict="").order_by("-id").first(),
        "own_check": own_check,
        "findings": _findings(own_check.result) if own_check else [],
        "facts": [(name, value) for name, value in facts.items() if value],
    }
