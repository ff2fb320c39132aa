"""The page of one job, and what its curve, map and log are drawn from."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from training import policy, queries, services
from training.lifecycle import Status, Verb
from training.models import Attempt, ChainLink, Checkpoint, Event, Metric, Replay, TrainingJob
from training.presentation.answers import how_it_ended
from training.presentation.config_groups import config_groups
from training.presentation.program_facts import program_of
from training.presentation.tracebacks import last_line, parts_of
from training.queries.code import commit_of
from training.queries.nodes import rank_dicts
from training.queries.resources import resources_of
from training.views.copy_as import copies_of
from training.views.layouts import layout_context
from training.views.page import page, visible_job
from training.views.timeline import MOST_LINES, timeline_of

MAX_EPOCH_ROWS = 500
LOG_CHUNKS = 200
MOST_REPLAYS = 50
_ROUTINE = ("epoch", "checkpoint")
_OUTCOMES = {
    "land": "landed",
    "complete": "completed",
    "fail": "failed",
    "crash": "crashed",
    "reap": "lost",
}


@page
@require_GET
def job(request: HttpRequest, job_id: int) -> HttpResponse:
    seen = visible_job(request, job_id)
    stored = list(Checkpoint.objects.filter(job=seen).order_by("-step", "-id"))
    attempts = list(Attempt.objects.filter(job=seen).order_by("-number")[:MOST_LINES])
    epochs, names = _epoch_table(seen)
    context = {
        "section": "jobs",
        "job": queries.job_dict(seen, request.user),
        "num_made_from": policy.visible_jobs(request.user).filter(parent=seen).count(),
        "can_locate": services.can_locate(seen),
        "may_edit": policy.may(request.user, policy.EDIT, seen),
        "not_stored": queries.why_not_stored(seen),
        "bad_loss": queries.bad_loss(seen),
        "checkpoints": stored,
        "checkpoints_size": sum(row.size for row in stored),
        "resumes_from": seen.latest_checkpoint_id,
        "generation": seen.generation,
        "may_take_back": _may_take_back(request, seen),
        "ranks": rank_dicts(seen),
        "attempts": [_attempt_words(row) for row in attempts],
        "exit_words": how_it_ended(attempts[0].exit_code) if attempts else "",
        "events": _history(seen),
        "timeline": timeline_of(seen, attempts),
        "epochs": epochs,
        "epoch_names": names,
        "log": queries.newest_log(seen.pk, LOG_CHUNKS),
        "config": config_groups(seen),
        "program": program_of(seen),
        "code": seen.code,
        "brought": commit_of(seen),
        "copies": copies_of(seen, request.build_absolute_uri(reverse("jobs"))),
        "environment": _environment(seen),
        "error_line": last_line(seen.error_message),
        "error_parts": parts_of(seen.error_message) if "\n" in seen.error_message.strip() else [],
        **layout_context(request, f"job:{seen.recipe or 'program'}"),
    } | _certificate(seen)
    return render(request, "job.html", context)


@page
@require_GET
def resources(request: HttpRequest, job_id: int) -> JsonResponse:
    """What the training uses of its machine, over time."""
    return JsonResponse(resources_of(visible_job(request, job_id)))


@page
@require_GET
def artifact(request: HttpRequest, job_id: int) -> JsonResponse:
    """What the recipe shows of the newest validated epoch."""
    return JsonResponse(queries.artifact_dict(visible_job(request, job_id)))


def _certificate(seen: TrainingJob) -> dict[str, Any]:
    # One query for both: whether there is a link at all, and the public address.
    tokens = list(
        ChainLink.objects.filter(job=seen).values_list("job__public_certificate__token", flat=True)[:1]
    )
    rows = Replay.objects.filter(job=seen, generation=seen.generation).order_by("-id")
    replays = list(rows[:MOST_REPLAYS])
    return {
        "has_chain": bool(tokens),
        "evidence": queries.evidence_words(seen),
        "replays": replays,
        "forged": sum(map(services.is_forged, replays)),
        "public_token": (tokens and tokens[0]) or "",
    }


def _may_take_back(request: HttpRequest, seen: TrainingJob) -> bool:
    """Whether an older checkpoint may be resumed from: the job is at rest, and its steps may be given up."""
    offered = queries.available_verbs(seen, request.user)
    return (
        Verb.RESUME in offered
        and seen.status != Status.RUNNING
        and policy.may(request.user, Verb.RESTART, seen)
    )


def _epoch_table(seen: TrainingJob) -> tuple[list[dict[str, Any]], list[str]]:
    rows = Metric.objects.filter(job=seen, epoch_values__isnull=False).order_by("-step")[:MAX_EPOCH_ROWS]
    shown = [queries.epoch_dict(row) for row in rows]
    names = list(dict.fromkeys(name for row in shown for name in row if name not in {"epoch", "step"}))
    return [row | {"cells": [row.get(name) for name in names]} for row in shown], names


def _history(seen: TrainingJob) -> list[Event]:
    """Newest first. Epochs and checkpoints are many, and must not push the rest out."""
    events = Event.objects.filter(job=seen).order_by("-seq")
    chosen = [*events.exclude(kind__in=_ROUTINE)[:200], *events.filter(kind__in=_ROUTINE)[:100]]
    return sorted(chosen, key=lambda event: event.seq, reverse=True)


def _attempt_words(row: Attempt) -> dict[str, Any]:
    return {
        "number": row.number,
        "node_name": row.node_name,
        "slots": row.slots,
        "started_at": row.started_at,
        "started_step": row.started_step,
        "ended_step": row.ended_step,
        "words": _OUTCOMES.get(row.outcome, row.outcome or "under way"),
        "exit_words": how_it_ended(row.exit_code),
        "detail": row.detail,
    }


def _environment(seen: TrainingJob) -> list[tuple[str, str]]:
    """As it was settled; the digest of a program's code stands with the code."""
    rows = [
        (name, value) for name, value in seen.environment.items() if seen.recipe or name != "recipe_digest"
    ]
    return [(name.replace("_", " "), _short(value)) for name, value in rows]


def _short(value: Any) -> str:
    text = "yes" if value is True else "no" if value is False else str(value)
    return text if len(text) <= 80 else text[:16] + "..."
