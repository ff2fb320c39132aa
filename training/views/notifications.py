"""The pages about notifications: watches, subscriptions, and what became of each message."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import Group
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from heimdall.errors import InvalidInput
from training import policy, queries, services
from training.errors import NotFound
from training.models import Delivery, Subscription
from training.notifications import USUAL
from training.queries import notifications as shown
from training.views.page import BIGGEST, next_address, page, visible_job, wants_json, whole
from training.views.subscription_forms import SCOPES, SubscriptionForm

NUM_SHOWN = 50


@page
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    watched_jobs = queries.with_relations(shown.watched_jobs(request.user))[:NUM_SHOWN]
    context = {
        "section": "notifications",
        "subscriptions": [_in_words(one) for one in services.subscriptions_of(request.user)],
        "teams": policy.own_teams(request.user),
        "offers_email": settings.OFFERS_EMAIL,
        "watched": queries.dicts(watched_jobs, request.user),
    }
    return render(request, "notifications.html", context)


@page
@require_GET
def watched(request: HttpRequest) -> JsonResponse:
    """What a page follows to tell in the browser."""
    jobs = shown.watched_jobs(request.user).filter(status__in=shown.UNFINISHED)
    return JsonResponse({"jobs": list(jobs.values_list("pk", flat=True)[:200])})


@page
@require_POST
def watch(request: HttpRequest, job_id: int) -> HttpResponse:
    job = visible_job(request, job_id)
    wanted = request.POST.get("watched") == "1"
    (services.watch if wanted else services.unwatch)(job, by=request.user)
    sentence = f"You {'watch' if wanted else 'no longer watch'} job {job.pk}."
    if wants_json(request):
        return JsonResponse({"watched": wanted, "message": sentence})
    messages.success(request, sentence)
    return redirect(next_address(request) or reverse("job", args=[job.pk]))


@page
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """A new subscription. The answer to the form is the only page that ever shows a webhook's secret."""
    via = request.GET.get("via", Subscription.Via.WEBHOOK)
    if via not in Subscription.Via.values or (via == Subscription.Via.EMAIL and not settings.OFFERS_EMAIL):
        raise Http404("There is no such channel.")
    team = _team(request)
    start = {
        "target": request.user.email if via == Subscription.Via.EMAIL else "",
        "topics": list(USUAL),
        "scopes": ["of_own", "of_watched"],
    }
    form = SubscriptionForm(via, team, request.POST or None, initial=start)
    if form.is_valid():
        try:
            made = services.subscribe(by=request.user, via=via, team=team, **form.wanted)
            return _with_secret(request, made, status=201)
        except InvalidInput as error:
            form.refuse(error)
    context = {"section": "notifications", "form": form, "via": via, "team": team}
    return render(request, "subscription.html", context, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """One subscription: what it asks for, and its newest messages with the last answer to each."""
    found = _subscription(request, pk)
    form = SubscriptionForm.of(found, request.POST or None)
    if form.is_valid():
        try:
            services.change_subscription(found, by=request.user, **form.wanted)
            messages.success(request, "Saved.")
            return redirect("subscription", pk)
        except InvalidInput as error:
            form.refuse(error)
    return _page_of(request, found, form, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def act(request: HttpRequest, pk: int, act: str) -> HttpResponse:
    """Test, switch, renew the secret, or delete: the last two ask first."""
    found = _subscription(request, pk)
    if act not in _ACTS:
        raise Http404("There is no such action.")
    if request.method == "GET":
        if act not in _QUESTIONS:
            return redirect("subscription", pk)
        context = {"section": "notifications", "subscription": found, "ask": _QUESTIONS[act]}
        return render(request, "subscription_ask.html", context)
    return _ACTS[act](request, found)


@page
@require_POST
def again(request: HttpRequest, pk: int, delivery: int) -> HttpResponse:
    found = _subscription(request, pk)
    message = Delivery.objects.filter(subscription=found, pk=min(delivery, BIGGEST)).first()
    if message is None:
        raise NotFound(f"There is no delivery {delivery}.")
    services.send_again(message, by=request.user)
    messages.success(request, "It is sent once more.")
    return redirect("subscription", pk)


def _test(request: HttpRequest, found: Subscription) -> HttpResponse:
    services.send_test(found, by=request.user)
    messages.success(request, "A test is on its way; a running worker sends it.")
    return redirect("subscription", found.pk)


def _switch(request: HttpRequest, found: Subscription) -> HttpResponse:
    changed = services.change_subscription(found, by=request.user, active=not found.active)
    message = "Notifications are on." if changed.active else "Notifications are off."
    messages.success(request, message)
    return redirect("subscription", found.pk)


def _renew(request: HttpRequest, found: Subscription) -> HttpResponse:
    return _with_secret(request, services.renew_secret(found, by=request.user))


def _delete(request: HttpRequest, found: Subscription) -> HttpResponse:
    services.unsubscribe(found, by=request.user)
    messages.success(request, "It is deleted.")
    return redirect("notifications")


_ACTS = {"test": _test, "switch": _switch, "secret": _renew, "delete": _delete}
_QUESTIONS = {
    "secret": {
        "title": "Make a new secret?",
        "text": "Messages are signed with the new one from now on. The receiver has to learn it.",
        "button": "Make a new secret",
    },
    "delete": {
        "title": "Delete this subscription?",
        "text": "Nothing is sent there any more; messages that wait are dropped.",
        "button": "Delete",
    },
}


def _with_secret(request: HttpRequest, found: Subscription, status: int = 200) -> HttpResponse:
    response = _page_of(request, found, SubscriptionForm.of(found), secret=found.secret, status=status)
    response["Cache-Control"] = "no-store"
    return response


def _page_of(
    request: HttpRequest, found: Subscription, form: SubscriptionForm, *, secret: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "section": "notifications",
        "subscription": _in_words(found),
        "deliveries": shown.deliveries_of(found).select_related("job")[:NUM_SHOWN],
        "form": form,
        "via": found.via,
        "team": found.team,
        "secret": secret,
    }
    return render(request, "subscription.html", context, status=status)


def _subscription(request: HttpRequest, pk: int) -> Subscription:
    return services.subscription_named(min(pk, BIGGEST), by=request.user)


def _team(request: HttpRequest) -> Group | None:
    if "team" not in request.GET:
        return None
    found = policy.own_teams(request.user).filter(pk=whole(request.GET["team"])).first()
    if found is None:
        raise NotFound("You are in no such team.")
    return found


def _in_words(subscription: Subscription) -> dict[str, Any]:
    scopes = [words for name, words in SCOPES if getattr(subscription, name)]
    teams = [f"Jobs of team {subscription.team}"]
    last = shown.deliveries_of(subscription).exclude(last_try_at=None).first()
    return shown.subscription_dict(subscription) | {
        "topic_words": subscription.topics or ["every transition"],
        "scope_words": teams if subscription.team else scopes,
        "last": last,
    }
