"""The API's description: what each view says of itself, and what is known only while it runs (recipes, teams)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema

from heimdall.recipes import registry
from training.api import serializers
from training.presentation import params

SENTENCES = {
    400: "A field or a parameter was refused.",
    401: "No token, or a wrong one.",
    403: "You may see the job, but not do this.",
    404: "There is none that you may see.",
    409: "The job's state does not allow it.",
    410: "The file is gone.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    416: "The file has no such part.",
    429: "Too many requests.",
    503: "The store or the database cannot be reached now.",
}
FINE = {
    200: "Done, or already so.",
    201: "Made.",
    202: "A wish was noted, or the job was queued.",
    204: "Gone.",
}


def answers(ok: int, shape: Any, *others: int) -> dict[Any, Any]:
    """The answers of an operation. 202 has the shape of the first; each may be 400, 401 and 503."""
    found: dict[Any, Any] = {ok: OpenApiResponse(shape, description=FINE[ok])}
    if 202 in others:
        found[202] = OpenApiResponse(shape, description=FINE[202])
    for status in sorted({400, 401, 503, *others} - {202}):
        found[status] = OpenApiResponse(serializers.Error, description=SENTENCES[status])
    return found


def checkpoint_file() -> dict[Any, Any]:
    found = answers(200, None, 404, 410)
    del found[200]
    for status, sentence in ((200, "The file."), (206, "The part that the Range header asked for.")):
        found[status, "application/vnd.safetensors"] = OpenApiResponse(
            OpenApiTypes.BINARY, description=sentence
        )
    found[302] = OpenApiResponse(
        None, description="The file lies at this address of the store, which holds for five minutes."
    )
    found[416] = OpenApiResponse(None, description=SENTENCES[416])
    return found


def document(
    name: str,
    summary: str,
    *,
    answers: dict[Any, Any],
    params: tuple[params.Param, ...] = (),
    body: Any = None,
) -> Callable[..., Any]:
    return extend_schema(
        operation_id=name,
        summary=summary,
        description="",
        parameters=[param.declare() for param in params],
        request=body,
        responses=answers,
        tags=[
            next(
                (
                    f"{word}s"
                    for word in ("recipe", "checkpoint", "dataset", "subscription", "node")
                    if word in name
                ),
                "jobs",
            )
        ],
    )


def complete(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """spectacular's last step: what depends on the recipes that are installed and on who asks."""
    schemas = result["components"]["schemas"]
    _bound_paths(result)
    _close(schemas)
    if "NewJobRequest" in schemas:
        schemas["NewJobRequest"] = _new_job(schemas["NewJobRequest"], getattr(request, "user", None))
    return result


def _bound_paths(result: dict[str, Any]) -> None:
    for operations in result["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["schema"].get("type") == "integer":
                    parameter["schema"] |= {"minimum": 1, "maximum": params.BIGGEST}


def _close(schemas: dict[str, Any]) -> None:
    """What is sent may hold no unknown field."""
    for name, schema in schemas.items():
        if name.endswith("Request"):
            schema["additionalProperties"] = False
            schema.pop("description", None)


def _new_job(schema: dict[str, Any], user: Any) -> dict[str, Any]:
    """One alternative for each recipe, with the recipe's own config."""
    teams = [group.name for group in user.groups.all()] if user is not None and user.is_authenticated else []
    alternatives = [_alternative(schema, registry.get(name), teams) for name in registry.names()]
    return {"oneOf": alternatives} if len(alternatives) > 1 else alternatives[0] if alternatives else schema


def _alternative(schema: dict[str, Any], info: registry.RecipeInfo, teams: list[str]) -> dict[str, Any]:
    found = copy.deepcopy(schema) | {"title": info.title, "description": info.description}
    fields = found["properties"]
    fields["recipe"] = {"type": "string", "enum": [info.name]}
    fields["config"] = _config(info.name)
    fields["team"] = {"enum": [*teams, None]} | {
        "description": schema["properties"]["team"].get("description", "")
    }
    return found


def _config(name: str) -> dict[str, Any]:
    """The recipe's schema with its own definitions put in place, for a reference would point elsewhere here."""
    schema = registry.schema(name)
    definitions = schema.pop("$defs", {})
    found = _in_place(schema, definitions)
    for field in found["properties"].values():
        field.pop("group", None)
        if field.get("type") == "string" and "enum" not in field and "pattern" not in field:
            field |= {"pattern": "^[^\\u0000]*$", "maxLength": field.get("maxLength", 1000)}
    return found


def _in_place(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_in_place(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return _in_place(
            definitions[name] | {key: inner for key, inner in value.items() if key != "$ref"}, definitions
        )
    return {key: _in_place(inner, definitions) for key, inner in value.items()}
