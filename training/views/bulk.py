"""A verb for many jobs: asked first, then done to each, and told how many were done and why others were not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from training import queries, services
from training.errors import NotAllowed, NotFound
from training.lifecycle import Answer, Verb
from training.models import TrainingJob
from training.presentation.answers import ANSWER, words_of
from training.presentation.confirmations import question_for_many
from training.queries.bulk_selection import changeable, visible_among
from training.queries.filters import Filters
from training.views.page import BIGGEST, next_address, page, wants_json, whole

MOST = services.MOST_AT_ONCE
MOST_SELECTED = 1_000
_SOON = {Verb.PAUSE: "will pause", Verb.RESUME: "queued", Verb.RESTART: "queued", Verb.CANCEL: "will stop"}
_NAMED = 8  # numbers of jobs in one sentence


@page
@require_POST
def many(request: HttpRequest) -> HttpResponse:
    """The first POST asks for a confirmation, the one that is `sure` does it."""
    verb = request.POST.get("verb", "")
    if verb not in services.VERBS:
        raise Http404("There is no such verb.")
    choice = JobSelection.of(request)
    numbers = choice.numbers(request.user, Verb(verb))
    if request.POST.get("sure") != "1":
        return _confirmation(request, choice, visible_among(request.user, numbers), verb)
    options = {"at": request.POST.get("at") or "epoch"} if verb == Verb.PAUSE else {}
    answers = services.ask_each(numbers, verb, by=request.user, **options)
    return _answer(request, bulk_outcome(answers, verb))


@dataclass(frozen=True)
class JobSelection:
    """Which jobs: those that were selected, all on the page, or all that the filters show."""

    which: str
    ids: tuple[int, ...]
    filters: Filters

    @classmethod
    def of(cls, request: HttpRequest) -> JobSelection:
        which = request.POST.get("which", "selected")
        given = request.POST.get("on_page", "").split(",") if which == "page" else request.POST.getlist("job")
        ids = dict.fromkeys(whole(text) for text in given[:MOST_SELECTED])
        filters = Filters.read(request.POST.get("query", ""))
        return cls(which, tuple(number for number in ids if 0 < number <= BIGGEST), filters)

    def numbers(self, user: Any, verb: Verb) -> list[int]:
        """At most MOST of them, in the order of the list; of all that match only those that the verb may change."""
        if self.which == "matching":
            return changeable(user, verb, self.filters.wanted(user), most=MOST)[0]
        return list(self.ids[:MOST])


@dataclass
class BulkOutcome:
    """How a verb ended for many jobs: numbers of those it was done to, and of the others by the sentence why not."""

    verb: str
    done: list[int] = field(default_factory=list)
    noted: list[int] = field(default_factory=list)
    already: list[int] = field(default_factory=list)
    refused: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def sentence(self) -> str:
        """For people, a line for each reason."""
        counts = [f"{_jobs(self.done)} done"] if self.done or not self.noted else []
        counts += [f"{_jobs(self.noted)} {_SOON[self.verb]}"] if self.noted else []
        lines = [f"{self.verb.capitalize()}: {', '.join(counts)}."]
        if self.already:
            lines.append(f"{_jobs(self.already)} {_were(self.already)} so already.")
        lines += [f"{_jobs(ids)} not, {_numbers(ids)}: {why}" for why, ids in self.refused.items()]
        return "\n".join(lines)


def bulk_outcome(answers: Iterable[services.Asked], verb: str) -> BulkOutcome:
    outcome = BulkOutcome(verb)
    for one in answers:
        if one.result is None:
            outcome.refused[_why_not(one, verb)].append(one.number)
        elif one.result.answer is Answer.ALREADY:
            outcome.already.append(one.number)
        elif one.result.answer is Answer.NOTED:
            outcome.noted.append(one.number)
        else:
            outcome.done.append(one.number)
    return outcome


def _why_not(asked: services.Asked, verb: str) -> str:
    """Without the job's number where the reason is the same for many."""
    if isinstance(asked.error, NotAllowed):
        return f"you may see, but not {verb}; owners and administrators may."
    if isinstance(asked.error, NotFound):
        return "gone by now."
    return words_of(asked)[1]


def _confirmation(
    request: HttpRequest, choice: JobSelection, jobs: list[TrainingJob], verb: str
) -> HttpResponse:
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


def _answer(request: HttpRequest, outcome: BulkOutcome) -> HttpResponse:
    word = "refused" if outcome.refused else "done"
    response: HttpResponse
    if wants_json(request):
        done = [*outcome.done, *outcome.noted]
        content = {"answer": word, "message": outcome.sentence, "gone": False, "done": done}
        response = JsonResponse(content, status=409 if outcome.refused and not done else 200)
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
