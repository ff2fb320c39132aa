"""The recipes that are installed here."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import NotFound as NoSuchAddress
from rest_framework.request import Request
from rest_framework.response import Response

from heimdall.recipes import registry
from training.api import pagination, serializers
from training.api.base import ApiView
from training.api.schema import answers, document
from training.presentation import params


class RecipeListView(ApiView):
    @document(
        "list_recipes",
        "What can be trained",
        answers=answers(200, serializers.page_of(serializers.RecipeShape)),
    )
    def get(self, request: Request) -> Response:
        params.read(request, ())
        return Response(pagination.whole([_recipe(name) for name in registry.names()]))


class RecipeDetailView(ApiView):
    @document("show_recipe", "Look at a recipe", answers=answers(200, serializers.RecipeShape, 404))
    def get(self, request: Request, name: str) -> Response:
        params.read(request, ())
        if name not in registry.names():
            raise NoSuchAddress(f"There is no recipe {name[:100]!r}.")
        return Response(_recipe(name))


def _recipe(name: str) -> dict[str, Any]:
    info = registry.get(name)
    return {
        "name": info.name,
        "title": info.title,
        "description": info.description,
        "job_type": info.job_type,
        "schema": registry.schema(name),
    }
