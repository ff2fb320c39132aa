"""A verb for many jobs: asked first, then done to each, and told how many were done and why others were not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from training import lifecycle, policy, queries, services
from training.asking import question_for_many
from training.errors import NotAllowed, NotFound
from training.lifecycle import Status, Verb
from training.models import TrainingJob
from training.queries.listing import page as read_page
from training.views.filters import Filters
from training.views.page import ANSWER, BIGGEST, next_address, page, wants_json, whole
from training.views.verbs import attempt_verb

MOST = 500  # at once
MOST_TICKED = 1_000
_NAMED = 8  # numbers of jobs in one sentence


@page
@require_POST
def many(request: HttpRequest) -> HttpResponse:
    """The first POST asks for a confirmation, the one that is `sure` does it."""
    verb = request.POST.get("verb", "")
    if verb not in services.VERBS:
        raise Http404("There is no such verb.")
    choice = Choice.of(request)
    jobs = choice.jobs(request.user, Verb(verb))
    if request.POST.get("sure") != "1":
        return _confirmation(request, choice, jobs, verb)
    options = {"at": request.POST.get("at") or "epoch"} if verb == Verb.PAUSE else {}
    return _answer(request, do_to_each(jobs, verb, request.user, **options))


@dataclass(frozen=True)
class Choice:
    """Which jobs: those that were ticked, all on the page, or all that the filters show."""

    which: str
    ids: tuple[int, ...]
    filters: Filters

    @classmethod
    def of(cls, request: HttpRequest) -> Choice:
        which = request.POST.get("which", "ticked")
        given = request.POST.get("on_page", "").split(",") if which == "page" else request.POST.getlist("job")
        ids = dict.fromkeys(whole(text) for text in given[:MOST_TICKED])
        filters = Filters.read(request.POST.get("query", ""))
        return cls(which, tuple(number for number in ids if 0 < number <= BIGGEST), filters)

    def jobs(self, user: Any, verb: Verb) -> list[TrainingJob]:
        """At most MOST of them, in the order of the list; of all that match only those that the verb may change."""
        ids = list(self.ids[:MOST])
        if self.which == "matching":
            wanted = self.filters.wanted(user)
            able = [status for status in lifecycle.changed_by(verb) if status in (wanted.status or Status)]
            found = read_page(user, replace(wanted, status=able), size=MOST).jobs if able else []
            ids = [job["id"] for job in found]
        rows = queries.with_relations(policy.visible_jobs(user)).in_bulk(ids)
        return [rows[number] for number in ids if number in rows]


@dataclass
class Outcome:
    """How a verb ended for many jobs: numbers of those it was done to, and of the others by the sentence why not."""

    verb: str
    done: list[int] = field(default_factory=list)
    already: list[int] = field(default_factory=list)
    refused: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def sentence(self) -> str:
        """For people, a line for each reason."""
        lines = [f"{self.verb.capitalize()}: {_jobs(self.done)} done."]
        if self.already:
            lines.append(f"{_jobs(self.already)} {_were(self.already)} so already.")
        lines += [f"{_jobs(ids)} not, {_numbers(ids)}: {why}" for why, ids in self.refused.items()]
        return "\n".join(lines)


def do_to_each(jobs: Iterable[TrainingJob], verb: str, user: Any, **options: str) -> Outcome:
    """Each by itself: one that is refused keeps none of the others from being done."""
    outcome = Outcome(verb)
    for job in jobs:
        try:
            word, sentence = attempt_verb(job, verb, user, **options)
        except NotAllowed:
            word, sentence = "not_allowed", f"you may see, but not {verb}; owners and administrators may."
        except NotFound:
            word, sentence = "not_found", "gone by now."
        if word in {"done", "noted"}:
            outcome.done.append(job.pk)
        elif word == "already":
            outcome.already.append(job.pk)
        else:
            outcome.refused[sentence].append(job.pk)
    return outcome


def _confirmation(request: HttpRequest, choice: Choice, jobs: list[TrainingJob], verb: str) -> HttpResponse:
    able = [job for job in jobs if verb in queries.available_verbs(job, request.user)]
    context = {
        "section": "jobs",
        "ask": question_for_many(verb, len(able)),
        "verb": verb,
        "choice": choice,
        "num_chosen": len(jobs),
        "num_left": len(jobs) - len(able),
        "nothing": not able,
        "ids": ",".join(map(str, choice.ids)),
        "is_cut": len(jobs) == MOST,
        "most": MOST,
        "next": next_address(request) or reverse("jobs"),
    }
    return render(request, "ask_many.html", context)


def _answer(request: HttpRequest, outcome: Outcome) -> HttpResponse:
    word = "refused" if outcome.refused else "done"
    response: HttpResponse
    if wants_json(request):
        told = {"answer": word, "message": outcome.sentence, "gone": False, "done": outcome.done}
        response = JsonResponse(told, status=409 if outcome.refused and not outcome.done else 200)
    else:
        level = messages.WARNING if outcome.refused else messages.SUCCESS
        messages.add_message(request, level, outcome.sentence)
        response = redirect(next_address(request) or reverse("jobs"))
    response[ANSWER] = word
    return response


def _jobs(ids: list[int]) -> str:
    return f"{len(ids)} job" + ("" if len(ids) == 1 else "s")


def _were(ids: list[int]) -> str:
    return "was" if len(ids) == 1 else "were"


def _numbers(ids: list[int]) -> str:
    named = ", ".join(f"#{number}" for number in ids[:_NAMED])
    return named + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
