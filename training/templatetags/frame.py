"""The frame of every page: where one can go, and the key that goes there after g."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import template
from django.urls import reverse

register = template.Library()


@dataclass(frozen=True)
class NavigationEntry:
    """One entry of the navigation. `section` is what a page says of itself; places seldom gone to have no key."""

    section: str
    label: str
    address: str
    key: str = ""


_ENTRIES = (
    NavigationEntry("jobs", "Jobs", "jobs", "j"),
    NavigationEntry("sweeps", "Sweeps", "sweeps", "s"),
    NavigationEntry("queue", "Queue", "queue", "q"),
    NavigationEntry("nodes", "Nodes", "nodes", "n"),
    NavigationEntry("datasets", "Datasets", "datasets", "d"),
    NavigationEntry("activity", "Activity", "activity", "a"),
    NavigationEntry("new", "New job", "job-new", "c"),
    NavigationEntry("api", "API", "api:docs"),
)
_FOR_STAFF = (NavigationEntry("admin", "Admin", "admin:index"),)


@register.simple_tag
def places(user: Any) -> list[dict[str, str]]:
    """Where this user can go, in the order of the navigation."""
    wanted = _ENTRIES + (_FOR_STAFF if user.is_staff else ())
    return [
        {"section": place.section, "label": place.label, "url": reverse(place.address), "key": place.key}
        for place in wanted
    ]
