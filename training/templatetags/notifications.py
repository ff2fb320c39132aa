"""The button that watches a job."""

from __future__ import annotations

from typing import Any

from django import template

from training.queries.notifications import is_watched

register = template.Library()


@register.inclusion_tag("_watch.html", takes_context=True)
def watch_button(context: template.Context, job: dict[str, Any]) -> dict[str, Any]:
    user = context["request"].user
    return {"job": job, "watched": is_watched(job["id"], user), "csrf_token": context.get("csrf_token")}
