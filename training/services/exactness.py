"""What checks have shown of scripts, and for which jobs: those of the same code, command, environment and device."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from training.models import CodeArchive, ExactnessCheck, LogChunk, TrainingJob
from training.services.storable import MAX_SENTENCE_CHARACTERS, finite, shortened

EXACT = "exact"
RESULT_MARK = (
    "heimdall-check-result "  # what stands before it in the log of a check, with the check's own word
)
_LAST_CHUNKS = 50
_PARTS = ("command", "directory", "environment", "hook")
_PARTS_IF_ANY = ("variables", "secrets")


def subject_of(program: dict[str, Any], code: CodeArchive) -> str:
    """What a check is a check of."""
    parts = [code.digest, *(program[name] for name in _PARTS)]
    parts += [program[name] for name in _PARTS_IF_ANY if program[name]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def places_shown(program: dict[str, Any], code: CodeArchive) -> list[dict[str, str]]:
    """On what a check has shown that such a script is resumed exactly."""
    if program["kind"] != "script":
        return []
    passed = ExactnessCheck.objects.filter(subject=subject_of(program, code), verdict=EXACT)
    return [_place(*found) for found in passed.values_list("device_name", "torch").distinct().order_by()]


def is_check(job: TrainingJob) -> bool:
    return bool(job.program) and ExactnessCheck.objects.filter(job=job).exists()


def check_word(check: TrainingJob) -> str:
    """What only the process of this check is given, so that nothing that its script prints passes for its result."""
    return salted_hmac("heimdall: the result of a check", str(check.pk), algorithm="sha256").hexdigest()[:32]


def note_result(job: TrainingJob) -> None:
    """The job is at its end: where it was a check, its log says what came out, for all jobs that it holds for."""
    check = ExactnessCheck.objects.filter(job=job).first() if job.program else None
    result = _result_of(job) if check else None
    if check is None or result is None:
        return
    environment = result.get("environment")
    place = environment if isinstance(environment, dict) else {}
    check.verdict = str(result.get("verdict", ""))[:20]
    check.reason = shortened(str(result.get("reason") or ""), MAX_SENTENCE_CHARACTERS)
    check.device_name, check.torch = (
        str(place.get("device_name", ""))[:200],
        str(place.get("torch", ""))[:100],
    )
    check.result = result
    check.save()
    ExactnessCheck.objects.filter(pk=check.pk).update(checked_at=Now())
    _take_out_of_log(job)
    if check.verdict == EXACT and job.code:
        _show(check, job.code)


def _show(check: ExactnessCheck, code: CodeArchive) -> None:
    place = _place(check.device_name, check.torch)
    for one in TrainingJob.objects.filter(code=code).only("program", "shown_exact_on"):
        if subject_of(one.program, code) == check.subject and place not in one.shown_exact_on:
            TrainingJob.objects.filter(pk=one.pk).update(shown_exact_on=[*one.shown_exact_on, place])


def _take_out_of_log(job: TrainingJob) -> None:
    """The line was for us: people have the result on the page, and the check's word is nobody's to read."""
    chunks = list(LogChunk.objects.filter(job=job).order_by("-id")[:_LAST_CHUNKS])[::-1]
    texts = [chunk.text for chunk in chunks]
    line = re.compile(re.escape(f"{RESULT_MARK}{check_word(job)} ") + r"[^\r\n]*\r?")
    found = list(line.finditer("".join(texts)))[-1]
    begin = 0
    for chunk, text in zip(chunks, texts, strict=True):
        start, stop = (min(max(place - begin, 0), len(text)) for place in found.span())
        if start < stop:
            LogChunk.objects.filter(pk=chunk.pk).update(text=text[:start] + text[stop:])
        begin += len(text)


def _place(device_name: str, torch: str) -> dict[str, str]:
    return {"device_name": device_name, "torch": torch}


def _result_of(job: TrainingJob) -> dict[str, Any] | None:
    chunks = LogChunk.objects.filter(job=job).order_by("-id").values_list("text", flat=True)[:_LAST_CHUNKS]
    text = "".join(reversed(chunks))
    _, mark, rest = text.rpartition(f"{RESULT_MARK}{check_word(job)} ")
    try:
        found = finite(json.loads(re.split(r"[\r\n]", rest, maxsplit=1)[0])) if mark else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
