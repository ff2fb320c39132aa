"""What this server is, and who asks it."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from heimdall import __version__
from training import policy
from training.api.base import ApiView
from training.api.schema import answers, document
from training.presentation import params


@extend_schema_serializer(component_name="About")
class AboutShape(rest.Serializer):
    name = rest.CharField(help_text="heimdall, whatever stands before it.")
    version = rest.CharField(help_text="Of the server.")
    api = rest.CharField(help_text="Of the API: what is added keeps it, what changes makes a new one.")
    training = rest.URLField(help_text="Below this lie the jobs.")
    schema = rest.URLField(help_text="The description of the API, as OpenAPI.")
    docs = rest.URLField(help_text="The same as a page.")


@extend_schema_serializer(component_name="Me")
class MeShape(rest.Serializer):
    username = rest.CharField()
    is_administrator = rest.BooleanField()
    teams = rest.ListField(child=rest.CharField(), help_text="Groups whose jobs you may help run.")
    rights = rest.ListField(
        child=rest.ChoiceField(choices=[str(right) for right in policy.Right]),
        help_text="What this token, or this session, may do where you may.",
    )


class IndexView(ApiView):
    @document("show_about", "What this server is", answers=answers(200, AboutShape))
    def get(self, request: Request) -> Response:
        params.read(request, ())
        addresses = {name: request.build_absolute_uri(name) for name in ("training", "schema", "docs")}
        return Response(
            {
                "name": "heimdall",
                "version": __version__,
                "api": "v1",
                "training": addresses["training"],
                "schema": f"{addresses['schema']}/",
                "docs": f"{addresses['docs']}/",
            }
        )


class MeView(ApiView):
    @document("show_me", "Who asks", answers=answers(200, MeShape))
    def get(self, request: Request) -> Response:
        params.read(request, ())
        rights = policy.rights_of(request.user)
        return Response(
            {
                "username": request.user.get_username(),
                "is_administrator": request.user.is_superuser,
                "teams": sorted(policy.teams_of(request.user).values()),
                "rights": [str(right) for right in policy.Right if right in rights],
            }
        )
