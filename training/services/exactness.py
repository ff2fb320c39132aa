"""What checks have shown of scripts, and for which jobs: those of the same code, command, environment and device."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db.models.functions import Now

from training.models import CodeArchive, ExactnessCheck, LogChunk, TrainingJob

EXACT = "exact"
RESULT_MARK = "heimdall-check-result "  # what stands before it in the log of a check
_LAST_CHUNKS = 50
_PARTS = ("command", "directory", "environment", "hook")


def subject_of(program: dict[str, Any], code: CodeArchive) -> str:
    """What a check is a check of."""
    parts = [code.digest, *(program[name] for name in _PARTS)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def places_shown(program: dict[str, Any], code: CodeArchive) -> list[dict[str, str]]:
    """On what a check has shown that such a script is resumed exactly."""
    if program["kind"] != "script":
        return []
    passed = ExactnessCheck.objects.filter(subject=subject_of(program, code), verdict=EXACT)
    return [_place(*found) for found in passed.values_list("device_name", "torch").distinct().order_by()]


def is_check(job: TrainingJob) -> bool:
    return bool(job.program) and ExactnessCheck.objects.filter(job=job).exists()


def note_result(job: TrainingJob) -> None:
    """The job is at its end: where it was a check, its log says what came out, for all jobs that it holds for."""
    check = ExactnessCheck.objects.filter(job=job).first() if job.program else None
    result = _result_of(job) if check else None
    if check is None or result is None:
        return
    environment = result.get("environment") or {}
    check.verdict, check.reason = str(result.get("verdict", ""))[:20], str(result.get("reason", ""))
    check.device_name = str(environment.get("device_name", ""))[:200]
    check.torch, check.result = str(environment.get("torch", ""))[:100], result
    check.save()
    ExactnessCheck.objects.filter(pk=check.pk).update(checked_at=Now())
    if check.verdict == EXACT and job.code:
        _show(check, job.code)


def _show(check: ExactnessCheck, code: CodeArchive) -> None:
    place = _place(check.device_name, check.torch)
    for one in TrainingJob.objects.filter(code=code).only("program", "shown_exact_on"):
        if subject_of(one.program, code) == check.subject and place not in one.shown_exact_on:
            TrainingJob.objects.filter(pk=one.pk).update(shown_exact_on=[*one.shown_exact_on, place])


def _place(device_name: str, torch: str) -> dict[str, str]:
    return {"device_name": device_name, "torch": torch}


def _result_of(job: TrainingJob) -> dict[str, Any] | None:
    chunks = LogChunk.objects.filter(job=job).order_by("-id").values_list("text", flat=True)[:_LAST_CHUNKS]
    text = "".join(reversed(chunks))
    _, mark, rest = text.rpartition(RESULT_MARK)
    try:
        found = json.loads(rest.partition("\n")[0]) if mark else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
