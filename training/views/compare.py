"""Jobs side by side: their curves over each other, what differs in their settings, and their best values."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from training import policy, queries
from training.lifecycle import Status
from training.models import TrainingJob
from training.presentation.config_groups import config_groups
from training.presentation.exports import cell, lines
from training.queries import job_list
from training.views.layouts import layout_context
from training.views.page import page, whole

FEWEST, MOST = 2, 50
NUM_FOUND = 10  # jobs that a search offers to add
_FACTS = (
    ("status", "State"),
    ("recipe", "Recipe"),
    ("owner", "Owner"),
    ("current_epoch", "Epochs"),
    ("current_step", "Steps"),
    ("best_epoch", "Best epoch"),
    ("best_val_loss", "Best validation loss"),
    ("train_loss", "Train loss"),
    ("val_loss", "Validation loss"),
    ("learning_rate", "Learning rate"),
)
_OF_PROGRAMS = (("promise", "A pause is"),)
_PARTS_OF_PROGRAMS = (
    ("directory", "Folder"),
    ("environment", "Environment"),
    ("hook", "Attached by itself"),
    ("variables", "Variables"),
    ("checkpoint_folder", "Checkpoint folder"),
)
# Words in the name of a value that is better the lower it is. Of any other nobody can say it.
_LOWER_IS_BETTER = frozenset({"loss", "perplexity", "error", "distance", "rmse", "mse", "mae"})


@dataclass(frozen=True)
class ComparedValue:
    """One value of each job. `best` is the lowest, where that is the best."""

    name: str
    title: str
    values: tuple[Any, ...]
    best: float | None = None
    is_loss: bool = False
    is_digest: bool = False

    @property
    def differs(self) -> bool:
        return any(value != self.values[0] for value in self.values)

    @property
    def cells(self) -> list[tuple[Any, bool]]:
        return [(value, value is not None and value == self.best) for value in self.values]


@page
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """?jobs=1,2,3: two to fifty of them; ?find= offers others. As a file with ?format=csv or json."""
    asked = _asked(request)
    jobs = _visible(request, asked)
    refused = _refused(asked, jobs)
    rows, settings = _facts(jobs), _settings(jobs)
    if not refused and request.GET.get("format") in {"csv", "json"}:
        return _file(request.GET["format"], jobs, [*rows, *settings])
    shown = [_shown(job, number, asked) for number, job in enumerate(jobs, 1)]
    context = {
        "section": "jobs",
        "jobs": shown,
        "drawn": [_drawn(one) for one in shown],
        "find": request.GET.get("find", "")[:200],
        "found": _found(request, asked),
        **layout_context(request, "compare"),
        "asked": ",".join(map(str, asked)),
        "refused": refused,
        "rows": rows,
        "settings": settings,
        "num_different": sum(row.differs for row in settings),
    }
    return render(request, "compare.html", context, status=400 if refused and asked else 200)


def _asked(request: HttpRequest) -> list[int]:
    text = request.GET.get("jobs", "").replace(" ", ",")
    return list(
        dict.fromkeys(number for part in text.split(",")[: 2 * MOST] if (number := whole(part.lstrip("#"))))
    )


def _visible(request: HttpRequest, asked: list[int]) -> list[TrainingJob]:
    visible = queries.with_relations(policy.visible_jobs(request.user))
    found = visible.filter(pk__in=asked[:MOST]).in_bulk()
    return [found[pk] for pk in asked[:MOST] if pk in found]


def _shown(job: TrainingJob, number: int, asked: list[int]) -> dict[str, Any]:
    """A job as the page shows it, with the address of the comparison without it."""
    others = ",".join(str(pk) for pk in asked if pk != job.pk)
    return queries.job_dict(job) | {"color": number, "without": f"?jobs={others}"}


def _drawn(one: dict[str, Any]) -> dict[str, Any]:
    """What the script draws of it."""
    return {
        "id": one["id"],
        "name": one["job_name"],
        "curve": reverse("api:curve", args=[one["id"]]),
        "parent": one["parent"],
        "origin": one["origin"]["step"] if one["origin"] else None,
        "is_live": one["status"] in (Status.QUEUED, Status.RUNNING),
    }


def _found(request: HttpRequest, asked: list[int]) -> list[dict[str, Any]]:
    """Jobs that a name or a number leads to, each with the address of the comparison with it."""
    text = request.GET.get("find", "").strip()[:200]
    if not text:
        return []
    found = job_list.page(request.user, job_list.JobQuery(search=text), size=NUM_FOUND + len(asked)).jobs
    others = [job for job in found if job["id"] not in asked][:NUM_FOUND]
    return [job | {"with": f"?jobs={','.join(map(str, [*asked, job['id']]))}"} for job in others]


def _refused(asked: list[int], jobs: list[TrainingJob]) -> str:
    if len(asked) > MOST:
        return f"These are {len(asked)} jobs; at most {MOST} can be compared."
    missing = [str(pk) for pk in asked if pk not in {job.pk for job in jobs}]
    if missing:
        return f"There is no job {' and no job '.join(missing)}."
    return (
        "" if len(jobs) >= FEWEST else f"Name {FEWEST} to {MOST} jobs by their numbers, or search for them."
    )


def _facts(jobs: list[TrainingJob]) -> list[ComparedValue]:
    shown = [queries.job_dict(job) for job in jobs]
    facts = [*_FACTS, *(_OF_PROGRAMS if any(one["program"] for one in shown) else ())]
    rows = [_row(name, title, [one[name] for one in shown]) for name, title in facts]
    own = dict.fromkeys(name for one in shown for name in one["metrics"])
    return rows + [_row(name, name, [one["metrics"].get(name) for one in shown]) for name in own]


def _row(name: str, title: str, values: list[Any]) -> ComparedValue:
    known = [value for value in values if value is not None]
    is_ranked = len(set(known)) > 1 and not _LOWER_IS_BETTER.isdisjoint(name.lower().split("_"))
    best = min(known) if is_ranked and all(isinstance(value, int | float) for value in known) else None
    return ComparedValue(name, title, tuple(values), best, is_loss="loss" in name)


def _settings(jobs: list[TrainingJob]) -> list[ComparedValue]:
    """What each runs, and the settings of all, with the titles of the first recipe that knows them."""
    shown = [{field["name"]: field for _, fields in config_groups(job) for field in fields} for job in jobs]
    names = dict.fromkeys(name for one in shown for name in one)
    return _programs(jobs) + [
        ComparedValue(
            name,
            next(one[name]["title"] for one in shown if name in one),
            tuple(one[name]["value"] if name in one else None for one in shown),
        )
        for name in names
    ]


def _programs(jobs: list[TrainingJob]) -> list[ComparedValue]:
    if not any(job.program for job in jobs):
        return []
    commands = (shlex.join(job.program["command"]) if job.program else None for job in jobs)
    rows = [ComparedValue("command", "Command", tuple(commands))]
    digests = (job.code.digest if job.code else None for job in jobs)
    rows.append(ComparedValue("code", "Code", tuple(digests), is_digest=True))
    for name, title in _PARTS_OF_PROGRAMS:
        parts = [_part(job.program.get(name)) for job in jobs]
        if any(parts):
            rows.append(ComparedValue(name, title, tuple(parts)))
    return rows


def _part(value: Any) -> str | None:
    """Nothing stands for what was left out."""
    text = " ".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, dict) else value
    return text or None


def _file(kind: str, jobs: list[TrainingJob], rows: list[ComparedValue]) -> HttpResponse:
    if kind == "json":
        content = {"jobs": [queries.job_dict(job) for job in jobs]}
        response = HttpResponse(json.dumps(content, cls=DjangoJSONEncoder), content_type="application/json")
    else:
        head: list[Iterable[Any]] = [["", *(cell(f"{job.job_name} (job {job.pk})") for job in jobs)]]
        table = [*head, *([cell(row.name), *map(cell, row.values)] for row in rows)]
        response = HttpResponse(lines(table), content_type="text/csv; charset=utf-8")
    name = "-".join(str(job.pk) for job in jobs)
    response["Content-Disposition"] = f'attachment; filename="jobs-{name}.{kind}"'
    return response
