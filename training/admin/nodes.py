"""The hosts, as they are now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from unfold.decorators import display

from training import policy, services
from training.admin.base import History, HistoryInline
from training.errors import NotAllowed, TransitionRefused
from training.models import Node, NodeEvent
from training.queries.nodes import node_dicts


class NodeEventInline(HistoryInline):
    model = NodeEvent
    fields = readonly_fields = ("created_at", "kind", "message", "actor")
    show_change_link = False
    ordering = ("-id",)


def _action(verb: str, label: str) -> Callable:
    """An admin action that does a verb to each selected node."""

    def act(model_admin: NodeAdmin, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        for node in nodes:
            try:
                messages.success(request, services.NODE_VERBS[verb](node, by=request.user)[1])
            except (NotAllowed, TransitionRefused) as error:
                messages.warning(request, f"{node.name}: {error}")

    act.__name__ = verb
    act.short_description = label  # type: ignore[attr-defined]
    return act


@admin.register(Node)
class NodeAdmin(History):
    """Nodes are drained, undrained and removed; nothing else of them is written here."""

    list_display = ("name", "state", "slots", "jobs", "pools_shown", "worker_started_at", "last_seen_at")
    readonly_fields = ("state", "jobs")
    inlines = (NodeEventInline,)
    actions = (
        _action("drain", "Drain"),
        _action("undrain", "Undrain"),
        _action("remove", "Remove silent nodes"),
    )

    def view_on_site(self, node: Node) -> str:
        return reverse("node", args=[node.name])

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        found = super().get_changelist_instance(request)
        shown = {shape["name"]: shape for shape in node_dicts(found.result_list, request.user)}
        for node in found.result_list:
            node.shown = shown[node.name]
        return found

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Node | None:
        node = super().get_object(request, object_id, from_field)
        if node is not None:
            node.shown = node_dicts([node], request.user)[0]
        return node

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Without a node: whether the list offers actions at all."""
        return obj is None and policy.may_steer_nodes(request.user)

    @display(
        description="State",
        label={"live": "success", "draining": "warning", "drained": "info", "silent": "danger"},
    )
    def state(self, node: Node) -> str:
        return node.shown["state"]

    @display(description="Jobs")
    def jobs(self, node: Node) -> str:
        taken = (slot for slot in node.shown["slots"] if slot["is_taken"])
        return ", ".join(f"#{slot['job']}" if slot["job"] else "somebody else's" for slot in taken) or "none"

    @display(description="Pools")
    def pools_shown(self, node: Node) -> str:
        return ", ".join(node.pools)
