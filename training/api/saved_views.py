"""Saved views over REST: lists of jobs with a name, one's own and those of one's teams."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, queries, services
from training.api import pagination, serializers
from training.api.base import ApiView, given
from training.api.schema import answers, document
from training.errors import NotFound
from training.models import SavedView
from training.presentation import params
from training.queries.filters import Filters
from training.services.saved_views import NAME_LENGTH


@extend_schema_serializer(component_name="SavedView")
class SavedViewShape(rest.Serializer):
    id = rest.IntegerField(min_value=0)
    name = rest.CharField()
    query = rest.CharField(help_text="The filters and the order, as the list's address has them.")
    url = rest.CharField(help_text="The page that shows it.")
    owner = rest.CharField()
    team = rest.CharField(allow_null=True, help_text="Whose members see it too.")
    created_at = rest.DateTimeField()


def _name(**options: Any) -> serializers.Text:
    return serializers.Text(max_length=NAME_LENGTH, validators=[serializers.NAME], **options)


def _query(**options: Any) -> serializers.Text:
    says = "Such as status=failed&owner=me&ordering=-updated_at."
    return serializers.query_field(help_text=says, **options)


def _team(**options: Any) -> serializers.Text:
    return serializers.Text(
        max_length=150, required=False, allow_null=True, help_text="A group of yours.", **options
    )


class NewView(serializers.Input):
    name = _name()
    query = _query()
    team = _team()


class ViewChange(serializers.Input):
    name = _name(required=False)
    query = _query(required=False)
    team = _team()


class SavedViewListView(ApiView):
    @document("list_views", "Saved lists of jobs", answers=answers(200, serializers.page_of(SavedViewShape)))
    def get(self, request: Request) -> Response:
        params.read(request, ())
        return Response(pagination.whole([shape(view) for view in services.visible_views(request.user)]))

    @document(
        "save_view",
        "Save a list of jobs under a name",
        body=NewView,
        answers=answers(201, SavedViewShape, 413, 415, 429),
    )
    def post(self, request: Request) -> Response:
        return Response(shape(services.save_view(by=request.user, **_fields(request, NewView))), status=201)


class SavedViewDetailView(ApiView):
    @document(
        "change_view",
        "Rename a saved view, or change what it shows and to whom",
        body=ViewChange,
        answers=answers(200, SavedViewShape, 403, 404, 413, 415, 429),
    )
    def patch(self, request: Request, pk: int) -> Response:
        view = _find(request, pk)
        changed = services.change_view(view, by=request.user, **_fields(request, ViewChange))
        return Response(shape(changed))

    @document("delete_view", "Delete a saved view", answers=answers(204, None, 403, 404, 429))
    def delete(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        services.delete_view(_find(request, pk), by=request.user)
        return Response(status=204)


def shape(view: SavedView) -> dict[str, Any]:
    return {
        "id": view.pk,
        "name": view.name,
        "query": view.query,
        "url": Filters.read(view.query).url(),
        "owner": view.owner.get_username(),
        "team": view.team.name if view.team else None,
        "created_at": queries.iso(view.created_at),
    }


def _fields(request: Request, body: type[serializers.Input]) -> dict[str, Any]:
    """What was given, with a team instead of its name, and a query that was understood."""
    fields = given(request, body)
    if "team" in fields:
        fields["team"] = policy.team_named(fields["team"], request.user)
    if "query" in fields:
        fields["query"] = Filters.read(fields["query"], strictly=True).query()
    return fields


def _find(request: Request, pk: int) -> SavedView:
    found = services.visible_views(request.user).filter(pk=pk).first()
    if found is None:
        raise NotFound(f"There is no saved view {str(pk)[:20]}.")
    return found
