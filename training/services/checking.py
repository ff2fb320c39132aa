"""The verb that checks whether a script is resumed exactly: a job of its own, which trains, stops and compares."""

from __future__ import annotations

import json
from typing import Any

from django.db import transaction

from heimdall.attached.program import LONGEST_WORD
from heimdall.errors import InvalidInput
from training import policy
from training.lifecycle import JobType
from training.models import ExactnessCheck, TrainingJob
from training.services import exactness
from training.services.forks import named_after
from training.services.submitting import submit
from training.services.transition import Result

STEPS = 30
MOST_STEPS = 10_000


def check(job: TrainingJob, *, by: Any, steps: int = STEPS) -> Result:
    """Queue a check of this job's script: with its code, its settings, its environment and its secrets."""
    policy.require(by, policy.SEE, job)
    if why_not := why_not_checkable(job):
        raise InvalidInput({"job": [why_not]})
    if not 3 <= steps <= MOST_STEPS:
        raise InvalidInput({"steps": [f"Give a number of steps from 3 to {MOST_STEPS}."]})
    program, code = job.program, job.code
    assert code is not None
    settings = json.dumps(job.config)
    if len(settings) > LONGEST_WORD:
        raise InvalidInput(
            {
                "config": [
                    f"The settings are longer than {LONGEST_WORD} characters: a check cannot be given them."
                ]
            }
        )
    hook = ["--hook", program["hook"]] if program["hook"] else []
    words = ["python", "-m", "heimdall.check", "--report", "--steps", str(steps), "--config", settings, *hook]
    with transaction.atomic():
        made = submit(
            by=by,
            job_name=named_after(job, "check"),
            config={},
            program={
                "command": [*words, "--", *program["command"]],
                "kind": "command",
                **{name: program[name] for name in ("directory", "environment", "variables", "secrets")},
            },
            code=code.digest,
            kept_secrets=job.secrets if job.owner_id == by.pk else "",
            pool=job.pool,
            priority=min(job.priority, 0),
            parent=job,
        )
        subject = exactness.subject_of(program, code)
        ExactnessCheck.objects.create(job=made.job, of=job, subject=subject)
    return made


def why_not_checkable(job: TrainingJob) -> str:
    """The sentence that refuses a check; empty where there is something to check."""
    if job.job_type == JobType.EXTERNAL:
        return f"Job {job.pk} is trained somewhere else: heimdall check tries its script there."
    if not job.program:
        return f"Job {job.pk} runs a recipe, which is exact: make prove shows it."
    if job.program["kind"] != "script":
        return f"Job {job.pk} runs a command, which goes on from what it saves itself: there is nothing to check."
    return ""
