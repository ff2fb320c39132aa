"""What every page stands on: a login, the answers 404 and 403, and the job that an address names."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from training import policy, queries
from training.errors import NotAllowed, NotFound
from training.models import Checkpoint, TrainingJob
from training.presentation.answers import ANSWER
from training.presentation.throttles import throttle_verbs

PAGE_SIZE = 50
BIGGEST = 2**63 - 1
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


def visible_job(request: HttpRequest, job_id: int) -> TrainingJob:
    found = None
    if 0 < job_id <= BIGGEST:
        found = queries.with_relations(policy.visible_jobs(request.user)).filter(pk=job_id).first()
    if found is None:
        raise NotFound(f"There is no job {job_id}.")
    return found


def people_known_to(user: Any, limit: int = 200) -> list[str]:
    """Names of the active people in the user's teams; everybody's for who may see every job."""
    people = User.objects.filter(is_active=True)
    if not policy.sees_all(user):
        people = people.filter(Q(pk=user.pk) | Q(groups__in=policy.own_teams(user))).distinct()
    return list(people.order_by("username").values_list("username", flat=True)[:limit])


def visible_checkpoint(seen: TrainingJob, checkpoint_id: int) -> Checkpoint:
    found = (
        Checkpoint.objects.filter(job=seen, pk=checkpoint_id).first() if checkpoint_id <= BIGGEST else None
    )
    if found is None:
        raise NotFound(f"There is no checkpoint {checkpoint_id}.")
    return found


def next_address(request: HttpRequest) -> str | None:
    """Where to go afterwards: only ever a page of this server."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if wanted and safe else None


def wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept", "").startswith("application/json")


def whole(text: str | None) -> int:
    """The number in the text, or 0."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0


def _not_allowed(request: HttpRequest, sentence: str) -> HttpResponse:
    as_json = JsonResponse({"answer": "not_allowed", "message": sentence}, status=403)
    response = (
        as_json if wants_json(request) else render(request, "403.html", {"sentence": sentence}, status=403)
    )
    response[ANSWER] = "not_allowed"
    return response
