"""Watches, subscriptions and deliveries over REST."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from heimdall.errors import InvalidInput
from training import policy, services
from training.api import pagination, serializers
from training.api.base import ApiView, find_job, given
from training.api.schema import answers, document
from training.errors import NotFound
from training.models import Delivery, Subscription
from training.notifications import FORMATS, TEST, TOPICS
from training.presentation import params
from training.presentation.params import PAGE, PAGE_SIZE
from training.queries import notifications as shown


class Topics(rest.ListField):
    """Names of topics; none of them means all."""

    def __init__(self, **options: Any):
        super().__init__(
            child=rest.ChoiceField(choices=[topic.value for topic in TOPICS]),
            max_length=len(TOPICS),
            help_text="Empty: every transition.",
            **options,
        )


class NewSubscription(serializers.Input):
    via = rest.ChoiceField(choices=Subscription.Via.values)
    target = serializers.Text(max_length=500, help_text="The webhook's URL, or the e-mail address.")
    team = serializers.Text(
        max_length=150,
        required=False,
        allow_null=True,
        help_text="A group of yours: it is notified of its jobs, and its members may change this.",
    )
    topics = Topics(required=False)
    format = rest.ChoiceField(
        choices=list(FORMATS),
        required=False,
        help_text="How a webhook's messages are written: our JSON, or for a chat.",
    )
    of_own = serializers.Boolean(required=False)
    of_watched = serializers.Boolean(required=False)
    of_team = serializers.Boolean(required=False)


class SubscriptionChange(serializers.Input):
    target = serializers.Text(max_length=500, required=False)
    topics = Topics(required=False)
    format = rest.ChoiceField(choices=list(FORMATS), required=False)
    of_own = serializers.Boolean(required=False)
    of_watched = serializers.Boolean(required=False)
    of_team = serializers.Boolean(required=False)
    active = serializers.Boolean(required=False)


@extend_schema_serializer(component_name="Subscription")
class SubscriptionShape(rest.Serializer):
    id = rest.IntegerField(min_value=0)
    via = rest.ChoiceField(choices=Subscription.Via.values)
    target = rest.CharField()
    team = rest.CharField(allow_null=True)
    topics = rest.ListField(child=rest.CharField(), help_text="Empty: every transition.")
    format = rest.ChoiceField(choices=list(FORMATS))
    of_own = rest.BooleanField()
    of_watched = rest.BooleanField()
    of_team = rest.BooleanField()
    active = rest.BooleanField()
    failures = rest.IntegerField(min_value=0, help_text="Failed tries in succession.")
    resting_until = rest.DateTimeField(allow_null=True)
    created_at = rest.DateTimeField()


@extend_schema_serializer(component_name="SubscriptionAndSecret")
class SecretShape(SubscriptionShape):
    secret = rest.CharField(allow_null=True, help_text="Shown this once; null for e-mail.")


@extend_schema_serializer(component_name="Delivery")
class DeliveryShape(rest.Serializer):
    id = rest.IntegerField(min_value=0)
    key = rest.CharField(help_text="The same in every try: `webhook-id`.")
    topic = rest.ChoiceField(choices=[*(topic.value for topic in TOPICS), TEST])
    job = rest.IntegerField(min_value=0, allow_null=True)
    state = rest.ChoiceField(choices=Delivery.State.values)
    tries = rest.IntegerField(min_value=0)
    next_try_at = rest.DateTimeField(allow_null=True)
    last_try_at = rest.DateTimeField(allow_null=True)
    answer_status = rest.IntegerField(min_value=0, allow_null=True)
    answer = rest.CharField(allow_blank=True)
    content = serializers.FreeForm(help_text="The body of the message.")
    created_at = rest.DateTimeField()


class WatchShape(rest.Serializer):
    watched = rest.BooleanField()


class WatchView(ApiView):
    @document("show_watch", "Whether you watch a job", answers=answers(200, WatchShape, 404))
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        return Response({"watched": shown.is_watched(find_job(request, pk).pk, request.user)})

    @document("watch_job", "Watch a job", answers=answers(200, WatchShape, 404, 429))
    def put(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        services.watch(find_job(request, pk), by=request.user)
        return Response({"watched": True})

    @document("unwatch_job", "Watch a job no longer", answers=answers(204, None, 404, 429))
    def delete(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        services.unwatch(find_job(request, pk), by=request.user)
        return Response(status=204)


class SubscriptionListView(ApiView):
    @document(
        "list_subscriptions",
        "Where you and your teams are notified",
        answers=answers(200, serializers.page_of(SubscriptionShape)),
    )
    def get(self, request: Request) -> Response:
        params.read(request, ())
        rows = services.subscriptions_of(request.user)
        return Response(pagination.whole([shown.subscription_dict(row) for row in rows]))

    @document(
        "add_subscription",
        "Subscribe by a webhook or by e-mail",
        body=NewSubscription,
        answers=answers(201, SecretShape, 413, 415, 429),
    )
    def post(self, request: Request) -> Response:
        fields = given(request, NewSubscription)
        team = _team(fields.pop("team", None), request.user)
        return _with_secret(services.subscribe(by=request.user, team=team, **fields), status=201)


class SubscriptionDetailView(ApiView):
    @document("show_subscription", "Look at a subscription", answers=answers(200, SubscriptionShape, 404))
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        return Response(shown.subscription_dict(_find(request, pk)))

    @document(
        "change_subscription",
        "Change or switch a subscription",
        body=SubscriptionChange,
        answers=answers(200, SubscriptionShape, 404, 413, 415, 429),
    )
    def patch(self, request: Request, pk: int) -> Response:
        found = _find(request, pk)
        changed = services.change_subscription(found, by=request.user, **given(request, SubscriptionChange))
        return Response(shown.subscription_dict(changed))

    @document("delete_subscription", "Unsubscribe", answers=answers(204, None, 404, 429))
    def delete(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        services.unsubscribe(_find(request, pk), by=request.user)
        return Response(status=204)


class SecretView(ApiView):
    @document(
        "renew_subscription_secret",
        "Make a new secret for a webhook",
        answers=answers(200, SecretShape, 404, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        return _with_secret(services.renew_secret(_find(request, pk), by=request.user), status=200)


class SendTestMessageView(ApiView):
    @document("test_subscription", "Send a test message", answers=answers(202, DeliveryShape, 404, 429))
    def post(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        sent = services.send_test(_find(request, pk), by=request.user)
        sent.refresh_from_db()
        return Response(shown.delivery_dict(sent), status=202)


class DeliveryListView(ApiView):
    @document(
        "list_subscription_deliveries",
        "What was sent, and the last answers",
        params=(PAGE, PAGE_SIZE),
        answers=answers(200, serializers.page_of(DeliveryShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, (PAGE, PAGE_SIZE))
        found = shown.deliveries_of(_find(request, pk))
        return Response(pagination.numbered(request, values, found, _deliveries))


class RedeliverView(ApiView):
    @document(
        "send_subscription_delivery_again", "Send once more", answers=answers(202, DeliveryShape, 404, 429)
    )
    def post(self, request: Request, pk: int, delivery: int) -> Response:
        given(request, serializers.NoOptions)
        found = shown.deliveries_of(_find(request, pk)).filter(pk=delivery).first()
        if found is None:
            raise NotFound(f"There is no delivery {str(delivery)[:20]}.")
        return Response(shown.delivery_dict(services.send_again(found, by=request.user)), status=202)


def _find(request: Request, pk: int) -> Subscription:
    return services.subscription_named(pk, by=request.user)


def _deliveries(rows: Iterable[Delivery]) -> list[dict[str, Any]]:
    return [shown.delivery_dict(row) for row in rows]


def _team(name: str | None, user: Any) -> Any:
    team = policy.own_teams(user).filter(name=name).first() if name else None
    if name and team is None:
        raise InvalidInput({"team": ["You are not in this team."]})
    return team


def _with_secret(subscription: Subscription, *, status: int) -> Response:
    body = shown.subscription_dict(subscription) | {"secret": subscription.secret or None}
    return Response(body, status=status, headers={"Cache-Control": "no-store"})
