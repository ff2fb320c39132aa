"""The hosts, as they are now."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from unfold.decorators import display

from training.admin.base import History, HistoryInline
from training.models import Node, NodeEvent
from training.queries.nodes import node_dicts


class NodeEventInline(HistoryInline):
    model = NodeEvent
    fields = readonly_fields = ("created_at", "kind", "message", "actor")
    show_change_link = False
    ordering = ("-id",)


@admin.register(Node)
class NodeAdmin(History):
    """To be read; a node is drained and taken out on its page."""

    list_display = ("name", "state", "slots", "jobs", "pools_shown", "worker_started_at", "last_seen_at")
    readonly_fields = ("state", "jobs")
    inlines = (NodeEventInline,)

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
