"""Datasets over REST: what there is, what is in it, more of it, and away with it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training import queries, services
from training.api import pagination, serializers
from training.api.base import ApiView, find_job, given
from training.api.filtersets import DatasetFilters, filtered, params_of
from training.api.schema import answers, document
from training.errors import NotFound
from training.models import Dataset
from training.presentation import params
from training.presentation.params import PAGE, PAGE_SIZE, Number
from training.store import datasets

START = Number("start", "The number of the first sample to show, from 0.", default=0)
LIMIT = Number("limit", "How many at most.", default=100, low=1, high=1000)
LIST = (*params_of(DatasetFilters), PAGE, PAGE_SIZE)
STATES = ("making", "complete", "incomplete")


@extend_schema_serializer(component_name="Dataset")
class DatasetShape(rest.Serializer):
    name = rest.CharField()
    recipe = rest.CharField()
    owner = rest.CharField()
    team = rest.CharField(allow_null=True)
    state = rest.ChoiceField(choices=STATES, help_text="incomplete: the job that makes it stopped early.")
    samples = rest.IntegerField(min_value=0, help_text="Finished ones.")
    wanted_samples = rest.IntegerField(min_value=0)
    size = rest.IntegerField(min_value=0, help_text="Bytes of all files.")
    refused = serializers.FreeForm(help_text="How many tries the recipe's filters refused, by reason.")
    fingerprint = rest.CharField(allow_blank=True, help_text="Names what is in it.")
    config = serializers.FreeForm(help_text="Of the job that began it.")
    made_by = rest.ListField(child=rest.IntegerField(min_value=0), help_text="Numbers of jobs.")
    read_by = rest.ListField(child=rest.IntegerField(min_value=0), help_text="Numbers of jobs.")
    created_at = rest.DateTimeField()
    updated_at = rest.DateTimeField()


@extend_schema_serializer(component_name="Sample")
class SampleShape(rest.Serializer):
    """Beside its number, the values that the recipe wrote."""

    index = rest.IntegerField(min_value=0)


@extend_schema_serializer(component_name="Artifact")
class ArtifactShape(rest.Serializer):
    epoch = rest.IntegerField(min_value=0, help_text="The newest one that was validated; 0 before that.")
    step = rest.IntegerField(min_value=0)
    content = serializers.FreeForm(allow_null=True, help_text="The recipe's own; `kind` says what it is.")


class DatasetListView(ApiView):
    @document(
        "list_datasets",
        "What data was made",
        params=LIST,
        answers=answers(200, serializers.page_of(DatasetShape), 404),
    )
    def get(self, request: Request) -> Response:
        values = params.read(request, LIST)
        visible = services.visible_datasets(request.user).order_by("-id")
        found = filtered(DatasetFilters, request, visible)
        rows = found.select_related("owner", "team")
        return Response(pagination.numbered(request, values, rows, queries.dataset_dicts))


class DatasetDetailView(ApiView):
    @document("show_dataset", "Look at a dataset", answers=answers(200, DatasetShape, 404))
    def get(self, request: Request, name: str) -> Response:
        params.read(request, ())
        return Response(queries.dataset_dicts([_find(request, name)])[0])

    @document(
        "delete_dataset", "Delete a dataset and its files", answers=answers(204, None, 403, 404, 409, 429)
    )
    def delete(self, request: Request, name: str) -> Response:
        given(request, serializers.NoOptions)
        services.delete_dataset(_find(request, name), by=request.user)
        return Response(status=204)


class SampleListView(ApiView):
    """Straight from the files: rows of arrays; empty where the files are of another kind."""

    @document(
        "list_dataset_samples",
        "Look at samples",
        params=(START, LIMIT),
        answers=answers(200, serializers.page_of(SampleShape), 404, 410),
    )
    def get(self, request: Request, name: str) -> Response:
        values = params.read(request, (START, LIMIT))
        found = _find(request, name)
        start, stop = values["start"], min(values["start"] + values["limit"], found.samples)
        rows = datasets.read_samples(found, start, stop) if start < stop else []
        following = pagination.link(request, start=stop) if rows and stop < found.samples else None
        return Response({"count": found.samples, "next": following, "previous": None, "results": rows})


class ArtifactView(ApiView):
    @document(
        "show_artifact",
        "What the recipe shows of the newest epoch",
        answers=answers(200, ArtifactShape, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        return Response(queries.artifact_dict(find_job(request, pk)))


def _find(request: Request, name: str) -> Dataset:
    """The dataset, if the user may see it."""
    found: Any = services.visible_datasets(request.user).select_related("owner", "team")
    dataset = found.filter(name=name).first()
    if dataset is None:
        raise NotFound(f"There is no dataset {name[:100]}.")
    return dataset
