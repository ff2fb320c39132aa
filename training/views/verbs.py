"""The verbs as pages: GET asks for a confirmation, POST does it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from training import policy, queries, services
from training.errors import NotAllowed, NotFound
from training.lifecycle import Answer, Verb
from training.models import TrainingJob
from training.presentation.answers import ANSWER, too_late, words_of
from training.presentation.confirmations import question, taking_back
from training.views.page import next_address, page, visible_checkpoint, visible_job, wants_json, whole


@page
@require_http_methods(["GET", "POST"])
def verb(request: HttpRequest, job_id: int, verb: str) -> HttpResponse:
    """GET asks for a confirmation, POST does it. Both work as plain pages; live.js shows the first in a dialog."""
    if verb not in services.VERBS:
        raise Http404("There is no such verb.")
    seen = visible_job(request, job_id)
    if request.method == "GET":
        return _confirmation(request, seen, verb)
    options: dict[str, Any] = {"at": request.POST.get("at") or "epoch"} if verb == Verb.PAUSE else {}
    if verb == Verb.RESUME and request.POST.get("checkpoint"):
        options = {"checkpoint": whole(request.POST["checkpoint"])}
    asked = services.ask(seen, verb, by=request.user, **options)
    if isinstance(asked.error, NotAllowed | NotFound):
        raise asked.error
    return answer(request, *words_of(asked), seen)


def answer(request: HttpRequest, word: str, sentence: str, seen: TrainingJob) -> HttpResponse:
    """302 and a message for a browser, JSON for a script; the header says in both what became of it."""
    gone = not TrainingJob.objects.filter(pk=seen.pk).exists()
    following = reverse("jobs") if gone else next_address(request) or reverse("job", args=[seen.pk])
    response: HttpResponse
    is_fine = word in set(Answer)
    if wants_json(request):
        status = {Answer.NOTED: 202, "invalid": 400}.get(word, 200 if is_fine else 409)
        if gone:  # the page that asked is left, and the next one shows it
            messages.success(request, sentence)
        response = JsonResponse({"answer": word, "message": sentence, "gone": gone}, status=status)
    else:
        messages.add_message(request, messages.SUCCESS if is_fine else messages.WARNING, sentence)
        response = redirect(following)
    response[ANSWER] = word
    return response


def _confirmation(request: HttpRequest, seen: TrainingJob, verb: str) -> HttpResponse:
    policy.require(request.user, verb, seen)
    shown = queries.job_dict(seen, request.user)
    start = None
    if verb == Verb.RESUME and "checkpoint" in request.GET:
        policy.require(request.user, Verb.RESTART, seen)
        start = visible_checkpoint(seen, whole(request.GET["checkpoint"]))
    context = {
        "section": "jobs",
        "job": shown,
        "verb": verb,
        "checkpoint": start,
        "ask": taking_back(shown, start.step, start.epoch) if start else question(shown, verb),
        "next": next_address(request) or "",
        "refused": too_late(shown, verb),
    }
    return render(request, "ask.html", context)
