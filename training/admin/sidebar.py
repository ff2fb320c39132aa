"""The admin's menu: trainings first, then people, then what keeps them going."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

# Sections by what people come for; a model that is in none of them stands in the last one.
_SECTIONS = (
    ("Training", ("trainingjob", "sweep", "checkpoint", "attempt", "event", "dataset", "deletion")),
    ("Hosts", ("node",)),
    ("People", ("user", "group", "apitoken", "subscription", "savedview", "watch")),
)
_REST = "Behind the scenes"
_ICONS = {
    "trainingjob": "model_training",
    "sweep": "tune",
    "checkpoint": "save",
    "attempt": "replay",
    "event": "history",
    "dataset": "database",
    "deletion": "delete",
    "node": "dns",
    "user": "person",
    "group": "group",
    "apitoken": "key",
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sections as unfold draws them, each with the pages that this user may open."""
    pages = _pages(request)
    sections = [(title, [name for name in names if name in pages]) for title, names in _SECTIONS]
    known = {name for _, names in sections for name in names}
    sections.append((_REST, [name for name in pages if name not in known]))
    return [
        {"title": title, "separator": True, "items": [_item(name, pages[name]) for name in names]}
        for title, names in sections
        if names
    ]


def _pages(request: HttpRequest) -> dict[str, type]:
    return {
        model._meta.model_name: model
        for model, model_admin in admin.site._registry.items()
        if model_admin.has_module_permission(request) and model_admin.has_view_permission(request)
    }


def _item(name: str, model: Any) -> dict[str, Any]:
    meta = model._meta
    return {
        "title": str(meta.verbose_name_plural).capitalize(),
        "icon": _ICONS.get(name, "list"),
        "link": reverse(f"admin:{meta.app_label}_{name}_changelist"),
    }
