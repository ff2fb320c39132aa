"""Who did what, in all the jobs that one can see."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from training.queries.activity import KINDS, SYSTEM, WantedActivity, activity_dicts
from training.queries.activity import activity as read_activity
from training.views.page import BIGGEST, PAGE_SIZE, page, people_known_to, whole

_KIND_LABELS = {
    "": "All but epochs and checkpoints",
    "people": "By people",
    "runs": "Starts and ends",
    "trouble": "Trouble",
    "routine": "Epochs and checkpoints",
}


@page
@require_GET
def activity(request: HttpRequest) -> HttpResponse:
    """The events, newest first. The address holds the filters and a cursor: the event before which a page begins."""
    wanted, before = _wanted(request), whole(request.GET.get("before")) or None
    events = read_activity(request.user, wanted, limit=PAGE_SIZE + 1, before=before)
    shown = activity_dicts(events[:PAGE_SIZE])
    context = {
        "section": "activity",
        "events": shown,
        "wanted": wanted,
        "kinds": [(kind, _KIND_LABELS[kind]) for kind in KINDS],
        "people": _people(request.user, wanted),
        "is_filtered": wanted != WantedActivity(),
        "is_newest": before is None,
        "newest_url": _url(wanted),
        "older_url": _url(wanted, before=shown[-1]["id"]) if len(events) > PAGE_SIZE else None,
    }
    return render(request, "activity.html", context)


def _wanted(request: HttpRequest) -> WantedActivity:
    """What the address asks for; what makes no sense is left out."""
    kind = request.GET.get("kind", "")
    number = whole(request.GET.get("job", "").strip().removeprefix("#"))
    return WantedActivity(
        who=request.GET.get("who", "").replace("\x00", "")[:150],
        kind=kind if kind in KINDS else "",
        job=number if 0 < number <= BIGGEST else None,
    )


def _people(user: User, wanted: WantedActivity) -> list[tuple[str, str]]:
    """Whom one may ask for: oneself, the system, and the people that one knows."""
    names = [name for name in people_known_to(user) if name != user.get_username()]
    found = [(user.get_username(), "Only me"), (SYSTEM, "Heimdall itself"), *((name, name) for name in names)]
    if wanted.who and wanted.who not in dict(found):
        found.append((wanted.who, wanted.who))
    return found


def _url(wanted: WantedActivity, **more: Any) -> str:
    given = {"who": wanted.who, "kind": wanted.kind, "job": wanted.job} | more
    kept = {name: value for name, value in given.items() if value}
    return reverse("activity") + (f"?{urlencode(kept)}" if kept else "")
