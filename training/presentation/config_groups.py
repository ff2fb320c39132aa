"""A job's settings as people read them: grouped as its recipe says, each beside its default."""

from __future__ import annotations

import json
from typing import Any

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from training.models import TrainingJob

OTHER_GROUP = "More settings"


def config_groups(job: TrainingJob) -> list[tuple[str, list[dict[str, Any]]]]:
    """The job's settings by group, each with its default; a recipe that is gone leaves the bare values."""
    try:
        properties = registry.schema(job.recipe)["properties"]
    except (InvalidInput, registry.BadRecipe):
        properties = {}
    found: dict[str, list[dict[str, Any]]] = {}
    known = [name for name in properties if name in job.config]
    for name in [*known, *sorted(job.config.keys() - properties)]:
        schema, value = properties.get(name, {}), job.config[name]
        found.setdefault(schema.get("group", OTHER_GROUP), []).append(
            {
                "name": name,
                "title": schema.get("title", name),
                "help": schema.get("description", ""),
                "value": _as_text(value),
                "default": _as_text(schema.get("default")),
                "changed": "default" in schema and schema["default"] != value,
            }
        )
    return list(found.items())


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return "; ".join(" ".join(map(str, item.values())) for item in value)
    return value if isinstance(value, str) else json.dumps(value)
