"""Who is told of what, and where: watches, and subscriptions by webhook or e-mail."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from heimdall.errors import InvalidInput
from training import policy
from training.errors import AddressRefused, NotAllowed, NotFound
from training.models import Delivery, Subscription, TrainingJob, Watch
from training.notifications import FORMATS, HEIMDALL, TEST, TOPICS, addresses, webhook
from training.services import outbox
from training.services.transition import hold

MOST = 20  # subscriptions that one user or one team may have
TARGET_LENGTH = 500
SCOPES = ("of_own", "of_watched", "of_team")


def watch(job: TrainingJob, *, by: Any) -> None:
    policy.require(by, policy.SEE, job)
    with transaction.atomic():
        hold(job)
        Watch.objects.get_or_create(user=by, job=job)


def unwatch(job: TrainingJob, *, by: Any) -> None:
    Watch.objects.filter(user=by, job=job).delete()


def subscriptions_of(user: Any) -> QuerySet[Subscription]:
    """Those that the user may see and change: the user's own, and those of the user's teams."""
    own = Q(user=user.pk) | Q(team__in=policy.own_teams(user))
    return Subscription.objects.filter(own).select_related("team")


def subscription_named(pk: int, *, by: Any) -> Subscription:
    found = subscriptions_of(by).filter(pk=pk).first()
    if found is None:
        raise NotFound(f"There is no subscription {str(pk)[:20]}.")
    return found


def subscribe(
    *,
    by: Any,
    via: str,
    target: str,
    team: Group | None = None,
    topics: list[str] | None = None,
    format: str = HEIMDALL,
    **scopes: bool,
) -> Subscription:
    """Tell the user, or a team of the user's, of transitions from now on. A webhook's secret is on the result."""
    if via not in Subscription.Via.values or (via == Subscription.Via.EMAIL and not settings.OFFERS_EMAIL):
        offered = "webhook or email" if settings.OFFERS_EMAIL else "webhook"
        raise InvalidInput({"via": [f"{via!r} is not offered here; use {offered}."]})
    if team is not None and team.pk not in policy.teams_of(by):
        raise InvalidInput({"team": ["You are not in this team."]})
    subscription = Subscription(
        via=via,
        user=None if team else by,
        team=team,
        secret=webhook.make_secret() if via == Subscription.Via.WEBHOOK else "",
        **_checked(via, target, topics if topics is not None else [], format, scopes),
    )
    _refuse_too_many(subscription)
    subscription.save()
    return subscription


def change_subscription(
    subscription: Subscription,
    *,
    by: Any,
    target: str | None = None,
    topics: list[str] | None = None,
    format: str | None = None,
    active: bool | None = None,
    **scopes: bool,
) -> Subscription:
    require_subscription(subscription, by=by)
    changes = _checked(
        subscription.via,
        subscription.target if target is None else target,
        subscription.topics if topics is None else topics,
        subscription.format if format is None else format,
        {name: getattr(subscription, name) for name in SCOPES} | scopes,
    )
    if active is not None:
        changes["active"] = active
    # Whatever was wrong may be mended by the change: it is tried again at once.
    return _write(subscription, changes | {"failures": 0, "resting_until": None})


def renew_secret(subscription: Subscription, *, by: Any) -> Subscription:
    """A new secret, on the result; the old one is void at once."""
    require_subscription(subscription, by=by)
    if subscription.via != Subscription.Via.WEBHOOK:
        raise InvalidInput({"via": ["Only webhooks have a secret."]})
    return _write(subscription, {"secret": webhook.make_secret()})


def unsubscribe(subscription: Subscription, *, by: Any) -> None:
    """No more messages; those that wait are dropped."""
    require_subscription(subscription, by=by)
    subscription.delete()


def send_test(subscription: Subscription, *, by: Any) -> Delivery:
    """Put a message that tells of no job into the outbox."""
    require_subscription(subscription, by=by)
    content = {"text": f"A test, asked for by {by}.", "event": None, "job": None}
    return outbox.put(subscription, TEST, content)


def send_again(delivery: Delivery, *, by: Any) -> Delivery:
    """Have a message sent once more, now, whatever became of it."""
    require_subscription(delivery.subscription, by=by)
    with transaction.atomic():
        Subscription.objects.filter(pk=delivery.subscription_id).update(failures=0, resting_until=None)
        again = {"state": Delivery.State.WAITING, "tries": 0, "next_try_at": Now()}
        Delivery.objects.filter(pk=delivery.pk).update(**again)
    delivery.refresh_from_db()
    return delivery


def require_subscription(subscription: Subscription, *, by: Any) -> None:
    if not subscriptions_of(by).filter(pk=subscription.pk).exists():
        raise NotAllowed("Only its user, or the team's members, may do this to a subscription.")


def _write(subscription: Subscription, changes: dict[str, Any]) -> Subscription:
    if not Subscription.objects.filter(pk=subscription.pk).update(**changes):
        raise NotFound(f"There is no subscription {subscription.pk}.")
    subscription.refresh_from_db()
    return subscription


def _checked(via: str, target: Any, topics: Any, form: str, scopes: dict[str, bool]) -> dict[str, Any]:
    """The columns for what was asked, or InvalidInput with each field that was refused."""
    refused: dict[str, list[str]] = {}
    try:
        target = _clean_target(via, target)
    except (AddressRefused, ValidationError) as error:
        refused["target"] = error.messages if isinstance(error, ValidationError) else [str(error)]
    unknown = [topic for topic in topics if topic not in list(TOPICS)]
    if unknown:
        refused["topics"] = [f"There is no topic {str(unknown[0])[:40]!r}. Choose from: {', '.join(TOPICS)}."]
    if form not in FORMATS:
        refused["format"] = [f"There is no format {str(form)[:40]!r}. Choose from: {', '.join(FORMATS)}."]
    elif via == Subscription.Via.EMAIL and form != HEIMDALL:
        refused["format"] = ["An e-mail has no format to choose; leave it out."]
    if refused:
        raise InvalidInput(refused)
    chosen = [topic for topic in TOPICS if topic in topics]
    return {"target": target, "topics": chosen, "format": form, **scopes}


def _clean_target(via: str, target: Any) -> str:
    target = str(target).strip()
    if len(target) > TARGET_LENGTH:
        raise AddressRefused(f"An address has at most {TARGET_LENGTH} characters.")
    if via == Subscription.Via.EMAIL:
        validate_email(target)
        return target
    addresses.address_of(addresses.read(target))
    return target


def _refuse_too_many(wanted: Subscription) -> None:
    there = Subscription.objects.filter(user=wanted.user, team=wanted.team).count()
    if there >= MOST:
        raise InvalidInput({"target": [f"There are {there} subscriptions already, and {MOST} is the limit."]})
