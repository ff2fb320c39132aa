"""Nodes over REST: what they are, how busy they are, and draining them and taking them out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training import services
from training.api import pagination, serializers
from training.api.base import ApiView, given
from training.api.filtersets import NodeFilters, filtered, params_of
from training.api.schema import answers, document
from training.errors import NotFound
from training.lifecycle import Answer
from training.models import Node as NodeRow
from training.presentation import params
from training.queries.nodes import STATES, VERBS, node_dicts, node_event_dict, node_events

LIST = params_of(NodeFilters)


@extend_schema_serializer(component_name="Slot")
class SlotShape(rest.Serializer):
    slot = rest.IntegerField(min_value=0)
    device = rest.CharField(help_text="cuda:0, say, or cpu.")
    device_name = rest.CharField(allow_blank=True)
    is_taken = rest.BooleanField()
    job = rest.IntegerField(allow_null=True, help_text="Null too where it is a job that you cannot see.")
    job_name = rest.CharField(allow_blank=True)
    since = rest.DateTimeField(allow_null=True)


@extend_schema_serializer(component_name="Gpu")
class GpuShape(rest.Serializer):
    index = rest.IntegerField(min_value=0)
    name = rest.CharField()
    memory_total = rest.IntegerField(min_value=0)
    memory_free = rest.IntegerField(min_value=0)
    busy_percent = rest.IntegerField(allow_null=True)


@extend_schema_serializer(component_name="Node")
class NodeShape(rest.Serializer):
    name = rest.CharField()
    state = rest.ChoiceField(choices=STATES)
    pools = rest.ListField(child=rest.CharField())
    environments = rest.ListField(
        child=rest.CharField(), help_text="Named environments that programs can run in there."
    )
    slots = SlotShape(many=True)
    free_slots = rest.IntegerField(min_value=0, help_text="That a job could take now.")
    cpu_percent = rest.FloatField(allow_null=True)
    cpu_count = rest.IntegerField(allow_null=True)
    memory_total = rest.IntegerField(allow_null=True, help_text="Bytes.")
    memory_free = rest.IntegerField(allow_null=True, help_text="Bytes.")
    gpus = GpuShape(many=True, help_text="As the driver sees them; empty where there are none.")
    versions = serializers.FreeForm()
    worker_started_at = rest.DateTimeField(allow_null=True)
    last_seen_at = rest.DateTimeField(allow_null=True)
    drained_at = rest.DateTimeField(allow_null=True)
    verbs = rest.ListField(
        child=rest.ChoiceField(choices=VERBS), help_text="What you may ask of it now; remove is DELETE."
    )


@extend_schema_serializer(component_name="NodeEvent")
class NodeEventShape(rest.Serializer):
    kind = rest.CharField()
    message = rest.CharField()
    actor = rest.CharField()
    created_at = rest.DateTimeField()


@extend_schema_serializer(component_name="NodeWithEvents")
class NodeWithEvents(NodeShape):
    events = NodeEventShape(many=True, help_text="What happened to it, newest first.")


@extend_schema_serializer(component_name="NodeAnswer")
class NodeAnswer(NodeShape):
    answer = rest.ChoiceField(choices=[str(answer) for answer in Answer])
    message = rest.CharField()


class NodeListView(ApiView):
    @document(
        "list_nodes",
        "Which hosts there are",
        params=LIST,
        answers=answers(200, serializers.page_of(NodeShape)),
    )
    def get(self, request: Request) -> Response:
        params.read(request, LIST)
        found = filtered(NodeFilters, request, NodeRow.objects.all())
        return Response(pagination.whole(node_dicts(found, request.user)))


class NodeDetailView(ApiView):
    @document("show_node", "Look at a host and its history", answers=answers(200, NodeWithEvents, 404))
    def get(self, request: Request, name: str) -> Response:
        params.read(request, ())
        node = _find(name)
        events = [node_event_dict(event) for event in node_events(node.name)]
        return Response(node_dicts([node], request.user)[0] | {"events": events})

    @document("remove_node", "Take out a silent host", answers=answers(204, None, 403, 404, 409, 429))
    def delete(self, request: Request, name: str) -> Response:
        given(request, serializers.NoOptions)
        services.remove(_find(name), by=request.user)
        return Response(status=204)


class DrainView(ApiView):
    @document(
        "drain_node",
        "Land a host's jobs and give it no more",
        answers=answers(200, NodeAnswer, 202, 403, 404, 413, 415, 429),
    )
    def post(self, request: Request, name: str) -> Response:
        return _asked(request, name, "drain")


class UndrainView(ApiView):
    @document(
        "undrain_node",
        "Let a host take jobs again",
        answers=answers(200, NodeAnswer, 403, 404, 413, 415, 429),
    )
    def post(self, request: Request, name: str) -> Response:
        return _asked(request, name, "undrain")


def _asked(request: Request, name: str, verb: str) -> Response:
    given(request, serializers.NoOptions)
    word, sentence = services.NODE_VERBS[verb](_find(name), by=request.user)
    shape: dict[str, Any] = node_dicts([_find(name)], request.user)[0]
    answer = shape | {"answer": str(word), "message": sentence}
    return Response(answer, status=202 if word is Answer.NOTED else 200)


def _find(name: str) -> NodeRow:
    found = None if "\x00" in name else NodeRow.objects.filter(name=name).first()
    if found is None:
        raise NotFound(f"There is no node {name[:100]}.")
    return found
