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
    return {
        "command": shlex.join(program["command"]),
        "promise": PROMISE_MEANS[promise(job)],
        "check": job.exactness_checks.exclude(verdict="").order_by("-id").first(),
        "own_check": ExactnessCheck.objects.filter(job=job).first(),
        "facts": [(name, value) for name, value in facts.items() if value],
    }
