"""One's own tokens over REST. The answer that makes one is the only place that shows its value."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, services
from training.api import pagination, serializers
from training.api.base import ApiView, find_job, given
from training.api.schema import answers, document
from training.errors import NotFound
from training.models import ApiToken
from training.presentation import params
from training.queries import iso
from training.services import tokens


class NewToken(serializers.Input):
    name = serializers.Text(max_length=80, help_text="What it is for; each of yours has another one.")
    scope = rest.ChoiceField(choices=policy.SCOPES_OF_PEOPLE, default="read", help_text="What it may do.")
    days = serializers.WholeNumber(
        min_value=1, max_value=tokens.LONGEST_DAYS, default=90, allow_null=True,
        help_text="Until it expires; null: it does not.",
    )  # fmt: skip


@extend_schema_serializer(component_name="Token")
class TokenShape(rest.Serializer):
    id = rest.IntegerField()
    name = rest.CharField()
    scope = rest.ChoiceField(choices=policy.SCOPES_OF_PEOPLE)
    created_at = rest.DateTimeField()
    last_used_at = rest.DateTimeField(allow_null=True, help_text="To the minute.")
    expires_at = rest.DateTimeField(allow_null=True)
    has_expired = rest.BooleanField()


@extend_schema_serializer(component_name="NewTokenAnswer")
class TokenWithValue(TokenShape):
    token = rest.CharField(help_text="Its value, which is shown this once.")


@extend_schema_serializer(component_name="JobToken")
class JobTokenShape(rest.Serializer):
    token = rest.CharField(
        help_text="Its value, which is shown this once. The one before is refused from now on."
    )


class TokenListView(ApiView):
    @document(
        "list_tokens",
        "Your tokens, without their values",
        answers=answers(200, serializers.page_of(TokenShape)),
    )
    def get(self, request: Request) -> Response:
        params.read(request, ())
        return Response(pagination.whole([_shape(token) for token in tokens.tokens_of(request.user)]))

    @document(
        "make_token",
        "Make a token",
        body=NewToken,
        answers=answers(201, TokenWithValue, 403, 413, 415, 429),
    )
    def post(self, request: Request) -> Response:
        made, value = tokens.make_token(request.user, **given(request, NewToken))
        shown = _shape(tokens.tokens_of(request.user).get(pk=made.pk)) | {"token": value}
        return Response(shown, status=201, headers={"Cache-Control": "no-store"})


class TokenDetailView(ApiView):
    @document("revoke_token", "Revoke a token", answers=answers(204, None, 403, 404, 429))
    def delete(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        token = tokens.tokens_of(request.user).filter(pk=pk).first()
        if token is None:
            raise NotFound(f"You have no token {str(pk)[:20]}.")
        tokens.revoke_token(token)
        return Response(status=204)


class JobTokenView(ApiView):
    """Such a token makes none itself."""

    needs = {"POST": policy.Right.SUBMIT}

    @document(
        "make_token_of_job",
        "Make the token with which an external job's training reports, and which does nothing else",
        body=serializers.NoOptions,
        answers=answers(201, JobTokenShape, 403, 404, 409, 413, 415, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        value = services.issue_token(find_job(request, pk), by=request.user)
        return Response({"token": value}, status=201, headers={"Cache-Control": "no-store"})


def _shape(token: ApiToken) -> dict[str, Any]:
    times = {name: iso(getattr(token, name)) for name in ("created_at", "last_used_at", "expires_at")}
    shown = {"id": token.pk, "name": token.name, "scope": token.scope, "has_expired": token.has_expired}
    return shown | times
