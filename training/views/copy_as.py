"""A job's settings to take away: as JSON, as a request by curl, as a command."""

from __future__ import annotations

import json
import shlex
from typing import Any

from heimdall.attached.program import Program
from heimdall.errors import HeimdallError
from heimdall.recipes import registry
from training.lifecycle import JobType
from training.models import TrainingJob

_FLAGS = {
    "kind": "--kind",
    "directory": "--directory",
    "environment": "--env",
    "hook": "--hook",
    "checkpoint_folder": "--checkpoint-folder",
    "pause_signal": "--pause-signal",
    "grace_seconds": "--grace",
}


def copies_of(job: TrainingJob, server: str) -> list[dict[str, str]]:
    """The first holds every setting; the other two only what is not the default, and what people say of the job."""
    as_json = {"id": "as-json", "name": "JSON", "text": json.dumps(job.config, indent=2)}
    if job.job_type == JobType.EXTERNAL:
        return [as_json]
    return [
        as_json,
        {"id": "as-curl", "name": "curl", "text": _curl(job, server)},
        {"id": "as-command", "name": "command", "text": _command(job)},
    ]


def _curl(job: TrainingJob, server: str) -> str:
    what = {"program": job.program, "code": job.code.digest} if job.code else {"recipe": job.recipe}
    body: dict[str, Any] = {"job_name": job.job_name, **what, "config": _chosen(job)}
    if job.program and job.program["secrets"]:
        body["secrets"] = dict.fromkeys(job.program["secrets"], "...")
    about = {"description": job.description, "priority": job.priority, "pool": job.pool, "tags": job.tags}
    body |= {name: value for name, value in about.items() if value}
    return (
        f"curl -X POST {shlex.quote(server + 'v1/training/jobs')} \\\n"
        '  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(body))}"
    )


def _command(job: TrainingJob) -> str:
    words = ["python", "manage.py", "job", "submit", *([] if job.program else [job.recipe])]
    words += [f"--name={job.job_name}"]
    for name, value in _chosen(job).items():
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    words += [f"--priority={job.priority}"] if job.priority else []
    words += [f"--pool={job.pool}"] if job.pool else []
    words += [f"--tag={tag}" for tag in job.tags]
    words += _of_program(job.program) if job.program else []
    return shlex.join(words)


def _of_program(program: dict[str, Any]) -> list[str]:
    """In the folder of the code; its secrets are read from the shell."""
    words = ["--program"]
    for name, flag in _FLAGS.items():
        if program[name] != Program.model_fields[name].default:
            words.append(f"{flag}={program[name]}")
    words += [f"--var={name}={value}" for name, value in program["variables"].items()]
    words += [f"--secret={name}" for name in program["secrets"]]
    words += [f"--metric={pattern}" for pattern in program["metric_patterns"]]
    words += [f"--resume-argument={word}" for word in program["resume_arguments"]]
    return [*words, "--", *program["command"]]


def _chosen(job: TrainingJob) -> dict[str, Any]:
    """What is not the recipe's default."""
    try:
        known = registry.schema(job.recipe)["properties"]
    except HeimdallError:
        known = {}
    return {
        name: value
        for name, value in job.config.items()
        if "default" not in known.get(name, {}) or known[name]["default"] != value
    }
