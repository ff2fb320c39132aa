"""The pages: request in, verb or read, HTML out. They work without JavaScript; live.js makes them live."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.handlers.asgi import ASGIRequest
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Mod
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from training import bundles, policy, queries, services
from training.api import downloads
from training.api.throttles import throttle_verbs
from training.asking import question
from training.errors import (
    BadCheckpoint,
    HeimdallError,
    InvalidInput,
    NotAllowed,
    NotFound,
    StorageUnavailable,
    TransitionRefused,
)
from training.forms import EditForm, NewJobForm, config_groups, initial_from, initial_of
from training.lifecycle import Answer, Status, Verb
from training.models import Attempt, Checkpoint, Event, Metric, TrainingJob
from training.recipes import registry

PAGE_SIZE = 50
BIGGEST = 2**63 - 1
MAX_CURVE_POINTS = 4_000
MAX_EPOCH_ROWS = 500
LOG_CHUNKS = 200
ANSWER = "X-Heimdall-Answer"
_MARKS = {
    "land": "",
    "crash": "crashed",
    "reap": "lost",
}  # what the curve marks; an empty word: the status it led to
_ROUTINE = ("epoch", "checkpoint")
_OUTCOMES = {
    "land": "landed",
    "complete": "completed",
    "fail": "failed",
    "crash": "crashed",
    "reap": "lost",
}
SORTS = {
    "newest": ("Newest first", ["-id"]),
    "oldest": ("Oldest first", ["id"]),
    "name": ("By name", ["job_name", "-id"]),
    "best": ("Best validation loss", [F("best_val_loss").asc(nulls_last=True), "-id"]),
    "changed": ("Changed last", ["-updated_at", "-id"]),
}

View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """A view for people who are logged in: what they cannot see is 404, what they may not do is 403."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **options: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **options)
        except NotFound as error:
            raise Http404(str(error)) from error
        except NotAllowed as error:
            return _not_allowed(request, str(error))

    return login_required(throttle_verbs(inner))


def _not_allowed(request: HttpRequest, sentence: str) -> HttpResponse:
    as_json = JsonResponse({"answer": "not_allowed", "message": sentence}, status=403)
    response = (
        as_json if _wants_json(request) else render(request, "403.html", {"sentence": sentence}, status=403)
    )
    response[ANSWER] = "not_allowed"
    return response


@page
@require_GET
def jobs(request: HttpRequest) -> HttpResponse:
    """The list. Filters, order and page stand in the address, so that it can be shared."""
    visible = policy.visible_jobs(request.user)
    filters = Filters.of(request)
    found = filters.apply(visible, request.user)
    counts = dict(
        filters.apply(visible, request.user, status=False)
        .values_list("status")
        .annotate(Count("id"))
        .order_by()
    )
    total = counts.get(filters.status, 0) if filters.status else sum(counts.values())
    first = (filters.page - 1) * PAGE_SIZE
    rows = list(queries.with_relations(found)[first : first + PAGE_SIZE])
    context = {
        "section": "jobs",
        "jobs": queries.dicts(rows, request.user),
        "anything": bool(counts) or visible.exists(),
        "filters": filters,
        "tabs": [_tab(filters, status, counts) for status in ("", *Status)],
        "recipes": registry.names(),
        "sorts": [(value, label) for value, (label, _) in SORTS.items()],
        "first": first + 1 if rows else 0,
        "last": first + len(rows),
        "total": total,
        "previous_url": filters.url(page=filters.page - 1) if filters.page > 1 else None,
        "next_url": filters.url(page=filters.page + 1) if first + len(rows) < total else None,
    }
    return render(request, "jobs.html", context)


@page
@require_GET
def job(request: HttpRequest, job_id: int) -> HttpResponse:
    seen = _visible(request, job_id)
    stored = list(Checkpoint.objects.filter(job=seen).order_by("-step", "-id"))
    attempts = list(Attempt.objects.filter(job=seen).order_by("-number")[:50])
    epochs, names = _epoch_table(seen)
    context = {
        "section": "jobs",
        "job": queries.job_dict(seen, request.user),
        "may_edit": policy.may(request.user, policy.EDIT, seen),
        "not_stored": queries.why_not_stored(seen),
        "checkpoints": stored,
        "checkpoints_size": sum(row.size for row in stored),
        "resumes_from": seen.latest_checkpoint_id,
        "attempts": [_attempt_words(row) for row in attempts],
        "exit_words": how_it_ended(attempts[0].exit_code) if attempts else "",
        "events": _history(seen),
        "epochs": epochs,
        "epoch_names": names,
        "log": queries.newest_log(seen.pk, LOG_CHUNKS),
        "config": config_groups(seen),
        "environment": [(name.replace("_", " "), _short(value)) for name, value in seen.environment.items()],
    }
    return render(request, "job.html", context)


@page
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Submit a job of one recipe, empty or filled in from another job (?from=<id>)."""
    parent = _visible(request, _whole(request.GET.get("from"))) if "from" in request.GET else None
    known = [found for name in registry.names() if (found := _recipe(name))]
    wanted = parent.recipe if parent else request.GET.get("recipe", known[0].name if known else "")
    recipe = next((found for found in known if found.name == wanted), None)
    if recipe is None and wanted:
        raise Http404("There is no such recipe.")
    form = None
    if recipe:
        start = initial_from(parent) if parent else {"job_name": "", **initial_of(request.GET)}
        form = NewJobForm(recipe, request.user, request.POST or None, initial=start)
        if form.is_valid():
            try:
                result = services.submit(by=request.user, parent=parent, **form.submission())
                messages.success(request, result.message)
                return redirect("job", result.job.pk)
            except InvalidInput as error:
                form.refuse(error)
    context = {"section": "new", "form": form, "recipe": recipe, "recipes": known, "parent": parent}
    return render(request, "job_new.html", context, status=400 if form and form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, job_id: int) -> HttpResponse:
    seen = _visible(request, job_id)
    policy.require(request.user, policy.EDIT, seen)
    form = EditForm.of(seen, request.POST or None)
    if form.is_valid():
        try:
            services.edit(seen, by=request.user, **form.cleaned_data)
            messages.success(request, f"Job {seen.pk} was changed.")
            return redirect("job", seen.pk)
        except InvalidInput as error:
            form.refuse(error)
    context = {"section": "jobs", "job": seen, "form": form}
    return render(request, "job_edit.html", context, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def verb(request: HttpRequest, job_id: int, verb: str) -> HttpResponse:
    """GET asks for a confirmation, POST does it. Both work as plain pages; live.js shows the first in a dialog."""
    if verb not in services.VERBS:
        raise Http404("There is no such verb.")
    seen = _visible(request, job_id)
    if request.method == "GET":
        return _confirmation(request, seen, verb)
    options = {"at": request.POST.get("at") or "epoch"} if verb == Verb.PAUSE else {}
    return answer(request, *attempt_verb(seen, verb, request.user, **options), seen)


@page
@require_GET
def curve(request: HttpRequest, job_id: int) -> JsonResponse:
    """The losses as columns, thinned out evenly where there are many; epochs always all."""
    seen = _visible(request, job_id)
    rows = Metric.objects.filter(job=seen).order_by("step")
    last = rows.values_list("step", flat=True).last() or 0
    stride = -(-last // MAX_CURVE_POINTS) or 1
    if stride > 1:
        rows = rows.annotate(rest=Mod("step", stride)).filter(
            Q(rest=0) | Q(epoch_values__isnull=False) | Q(step=last)
        )
    data: dict[str, Any] = {
        "stride": stride,
        "steps": [],
        "losses": [],
        "epoch_steps": [],
        "epochs": [],
        "val_losses": [],
    }
    for step, epoch, values, epoch_values in rows.values_list("step", "epoch", "values", "epoch_values"):
        data["steps"].append(step)
        data["losses"].append(values.get("loss"))
        if epoch_values is not None:
            data["epoch_steps"].append(step)
            data["epochs"].append(epoch)
            data["val_losses"].append(epoch_values.get("val_loss"))
    marks = (
        Event.objects.filter(job=seen, kind__in=_MARKS).order_by("seq").values_list("kind", "status", "step")
    )
    data["marks"] = [{"step": step, "word": _MARKS[kind] or status} for kind, status, step in marks]
    return JsonResponse(data)


@page
@require_GET
def artifact(request: HttpRequest, job_id: int) -> JsonResponse:
    """What the recipe shows of the newest validated epoch."""
    return JsonResponse(queries.artifact_dict(_visible(request, job_id)))


@page
@require_GET
def log(request: HttpRequest, job_id: int) -> StreamingHttpResponse:
    """Everything that was printed, as a text file."""
    seen = _visible(request, job_id)
    pieces = _log_pieces(seen.pk) if isinstance(request, ASGIRequest) else _log_text(seen.pk)
    response = StreamingHttpResponse(pieces, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="job-{seen.pk}.log"'
    return response


@page
@require_GET
def download(request: HttpRequest, job_id: int, checkpoint_id: int) -> HttpResponseBase:
    try:
        return downloads.send(request, _checkpoint(request, job_id, checkpoint_id))
    except (BadCheckpoint, StorageUnavailable) as error:
        messages.error(request, str(error))
        return redirect("job", job_id)


@page
@require_GET
def bundle(request: HttpRequest, job_id: int, checkpoint_id: int) -> HttpResponseBase:
    """The model with all that belongs to it, to be taken to another Heimdall."""
    row = _checkpoint(request, job_id, checkpoint_id)
    try:
        written = bundles.write(row, settings.SCRATCH_DIR)
    except (BadCheckpoint, StorageUnavailable) as error:
        messages.error(request, str(error))
        return redirect("job", job_id)
    file = written.open("rb")
    size = written.stat().st_size
    written.unlink()  # the open file is all that is needed
    response = downloads.stream(request, file, 0, size, 200)
    response["Content-Length"] = str(size)
    response["Content-Disposition"] = f'attachment; filename="{bundles.name_of(row)}"'
    return response


@page
@require_POST
def pin(request: HttpRequest, job_id: int, checkpoint_id: int) -> HttpResponse:
    row = _checkpoint(request, job_id, checkpoint_id)
    pinned = request.POST.get("pinned") == "1"
    services.pin(row, by=request.user, pinned=pinned)
    messages.success(
        request, f"The checkpoint at step {row.step} is {'pinned' if pinned else 'no longer pinned'}."
    )
    return redirect(reverse("job", args=[job_id]) + "#checkpoints")


def attempt_verb(seen: TrainingJob, verb: str, user: Any, **options: Any) -> tuple[str, str]:
    """Do the verb; the answer in one word, and the sentence for people."""
    try:
        result = services.VERBS[verb](seen, by=user, **options)
    except TransitionRefused as error:
        return "refused", str(error)
    except InvalidInput as error:
        return "invalid", " ".join(message for found in error.fields.values() for message in found)
    return str(result.answer), result.message


def answer(request: HttpRequest, word: str, sentence: str, seen: TrainingJob) -> HttpResponse:
    """302 and a message for a browser, JSON for a script; the header says in both what became of it."""
    gone = not TrainingJob.objects.filter(pk=seen.pk).exists()
    following = reverse("jobs") if gone else _next(request) or reverse("job", args=[seen.pk])
    response: HttpResponse
    if _wants_json(request):
        codes = {"refused": 409, "invalid": 400, Answer.NOTED: 202}
        response = JsonResponse(
            {"answer": word, "message": sentence, "gone": gone}, status=codes.get(word, 200)
        )
    else:
        messages.add_message(
            request, messages.WARNING if word in {"refused", "invalid"} else messages.SUCCESS, sentence
        )
        response = redirect(following)
    response[ANSWER] = word
    return response


def how_it_ended(exit_code: int | None) -> str:
    """What a trainer's exit code says: the signal by its name."""
    if exit_code is None:
        return ""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


@dataclass(frozen=True)
class Filters:
    """What the address of the list says. What makes no sense is left out."""

    status: str = ""
    q: str = ""
    recipe: str = ""
    owner: str = ""
    sort: str = "newest"
    page: int = 1

    @classmethod
    def of(cls, request: HttpRequest) -> Filters:
        get = request.GET.get
        return cls(
            status=get("status", "") if get("status") in set(Status) else "",
            q=get("q", "").replace("\x00", "").strip()[:200],
            recipe=get("recipe", "").replace("\x00", "")[:200],
            owner="me" if get("owner") == "me" else "",
            sort=get("sort", "newest") if get("sort") in SORTS else "newest",
            page=min(max(_whole(get("page")), 1), 1_000_000),
        )

    def apply(self, found: QuerySet[TrainingJob], user: Any, *, status: bool = True) -> QuerySet[TrainingJob]:
        if status and self.status:
            found = found.filter(status=self.status)
        if self.recipe:
            found = found.filter(recipe=self.recipe)
        if self.owner:
            found = found.filter(owner=user)
        if self.q:
            number = _whole(self.q.removeprefix("#"))
            found = found.filter(Q(job_name__icontains=self.q) | (Q(pk=number) if number else Q()))
        return found.order_by(*SORTS[self.sort][1])

    def url(self, **changes: Any) -> str:
        """The list's address with some of it changed; another filter starts at its first page."""
        names = ("status", "q", "recipe", "owner", "sort")
        wanted = {name: getattr(self, name) for name in names} | {"page": 1} | changes
        usual = {"sort": "newest", "page": 1}
        kept = {name: value for name, value in wanted.items() if value and value != usual.get(name)}
        return reverse("jobs") + (f"?{urlencode(kept)}" if kept else "")

    @property
    def is_plain(self) -> bool:
        """Whether this is the list of the newest jobs, which the socket shows by itself."""
        return self.url(page=self.page) == reverse("jobs")


def _wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept", "").startswith("application/json")


def _tab(filters: Filters, status: str, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "label": status.capitalize() or "All",
        "url": filters.url(status=status),
        "current": filters.status == status,
        "count": counts.get(status, 0) if status else sum(counts.values()),
    }


def _visible(request: HttpRequest, job_id: int) -> TrainingJob:
    found = None
    if 0 < job_id <= BIGGEST:
        found = queries.with_relations(policy.visible_jobs(request.user)).filter(pk=job_id).first()
    if found is None:
        raise NotFound(f"There is no job {job_id}.")
    return found


def _checkpoint(request: HttpRequest, job_id: int, checkpoint_id: int) -> Checkpoint:
    seen = _visible(request, job_id)
    found = (
        Checkpoint.objects.filter(job=seen, pk=checkpoint_id).first() if checkpoint_id <= BIGGEST else None
    )
    if found is None:
        raise NotFound(f"There is no checkpoint {checkpoint_id}.")
    return found


def _recipe(name: str) -> registry.RecipeInfo | None:
    """A recipe that cannot be used is left out of the choice; the start of the server says why."""
    try:
        return registry.get(name)
    except HeimdallError:
        return None


def _confirmation(request: HttpRequest, seen: TrainingJob, verb: str) -> HttpResponse:
    policy.require(request.user, verb, seen)
    shown = queries.job_dict(seen, request.user)
    context = {
        "section": "jobs",
        "job": shown,
        "verb": verb,
        "ask": question(shown, verb),
        "next": _next(request) or "",
        "refused": None
        if verb in shown["verbs"]
        else f"Not possible any more: the job is {shown['headline']}.",
    }
    return render(request, "ask.html", context)


def _next(request: HttpRequest) -> str | None:
    """Where to go afterwards: only ever a page of this server."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if wanted and safe else None


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
        "slot": row.slot,
        "started_at": row.started_at,
        "started_step": row.started_step,
        "ended_step": row.ended_step,
        "words": _OUTCOMES.get(row.outcome, row.outcome or "under way"),
        "exit_words": how_it_ended(row.exit_code),
        "detail": row.detail,
    }


def _log_text(job_id: int) -> Iterator[str]:
    last = 0
    while chunks := queries.log_after(job_id, last, LOG_CHUNKS):
        yield "".join(chunk.text for chunk in chunks)
        last = chunks[-1].pk


async def _log_pieces(job_id: int) -> AsyncIterator[str]:
    """The same under ASGI, where Django would gather a plain iterator in memory first."""
    pieces = _log_text(job_id)
    while (piece := await sync_to_async(next)(pieces, None)) is not None:
        yield piece


def _short(value: Any) -> str:
    text = "yes" if value is True else "no" if value is False else str(value)
    return text if len(text) <= 80 else text[:16] + "..."


def _whole(text: str | None) -> int:
    """The number in the text, or 0."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0
