"""The API's description: what each view says of itself, and what is known only while it runs (recipes, teams)."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from heimdall import __version__
from heimdall.attached.program import Program
from heimdall.recipes import registry
from training import policy
from training.api import idempotency, serializers
from training.lifecycle import USER_VERBS, Answer, JobType, Status, Stop, StopAt
from training.models import Checkpoint, Delivery, Replay, Subscription
from training.placement import REASON_CODES
from training.presentation import params
from training.presentation.exports import FORMATS
from training.queries import EVIDENCE, PROMISES
from training.services.forks import CARRIES

OF_PROGRAMS = ("program", "code", "secrets")
SPARSE = "application/vnd.heimdall.fields+json"  # of answers to `fields`
COMPONENTS = "#/components/schemas/"
ENUMS: dict[str, tuple[str, ...]] = {
    "JobStatus": tuple(map(str, Status)),
    "JobType": tuple(map(str, JobType)),
    "JobVerb": tuple(map(str, USER_VERBS)),
    "StopKind": tuple(str(stop) for stop in Stop if stop),
    "StepOrEpoch": tuple(str(moment) for moment in StopAt if moment),
    "VerbOutcome": tuple(map(str, Answer)),
    "CheckpointKind": tuple(map(str, Checkpoint.Kind)),
    "WaitingReason": tuple(REASON_CODES),
    "CarriedOver": tuple(CARRIES),
    "SubscriptionChannel": tuple(Subscription.Via.values),
    "DeliveryState": tuple(Delivery.State.values),
    "Promise": tuple(PROMISES),
    "Evidence": tuple(EVIDENCE),
    "ReplayState": tuple(map(str, Replay.State)),
}
SENTENCES = {
    400: "A field or a parameter was refused.",
    401: "No token, or a wrong one.",
    403: "You may see the job, but not do this.",
    404: "There is none that you may see.",
    409: "The job's state does not allow it.",
    410: "The file is gone.",
    412: "Somebody edited it since it was read.",
    413: "The body is too large.",
    415: "The body is not of the type that is taken.",
    422: "The Idempotency-Key came with another request before.",
    416: "The file has no such part.",
    429: "Too many requests.",
    503: "The store or the database cannot be reached now.",
}
FINE = {
    200: "Done, or already so.",
    201: "Made.",
    202: "Accepted: the request takes effect later, or the job was queued.",
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


def sparse(found: dict[Any, Any], shape: Any) -> dict[Any, Any]:
    """The same answers, where `fields` says what of them is wanted."""
    found[200, "application/json"] = found.pop(200)
    found[200, SPARSE] = OpenApiResponse(shape, description=FINE[200])
    return found


def exported_jobs() -> dict[Any, Any]:
    found = answers(200, None, 403)
    del found[200]
    for media_type, _ in FORMATS.values():
        kind = media_type.partition(";")[0]
        shape = OpenApiTypes.ANY if kind == "application/json" else OpenApiTypes.BINARY
        found[200, kind] = OpenApiResponse(shape, description="A file, sent as it is made.")
    return found


def code_file() -> dict[Any, Any]:
    found = answers(200, None, 404, 410)
    del found[200]
    found[200, "application/gzip"] = OpenApiResponse(OpenApiTypes.BINARY, description="The archive.")
    return found


def certificate_file() -> dict[Any, Any]:
    found = answers(200, None, 404)
    del found[200]
    found[200, "application/json"] = OpenApiResponse(
        OpenApiTypes.OBJECT, description="The signed document, to be kept byte for byte."
    )
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
    takes_key: bool = False,
    headers: tuple[OpenApiParameter, ...] = (),
) -> Callable[..., Any]:
    return extend_schema(
        operation_id=name,
        summary=summary,
        description="",
        parameters=[
            *(param.declare() for param in params),
            *([idempotency.PARAMETER] if takes_key else []),
            *headers,
        ],
        request=body,
        responses=answers,
        tags=[
            next(
                (
                    f"{word}s"
                    for word in (
                        "recipe",
                        "program",
                        "checkpoint",
                        "dataset",
                        "subscription",
                        "node",
                        "token",
                        "sweep",
                    )
                    if word in name
                ),
                "server" if name in {"show_about", "show_me"} else "jobs",
            )
        ],
    )


def complete(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """spectacular's last step: what depends on the recipes that are installed and on who asks."""
    index = reverse("api:index")
    where = (request.build_absolute_uri(index) if request is not None else index).removesuffix("/v1/")
    result["servers"] = [{"url": where or "/", "description": f"Heimdall {__version__}"}]
    schemas = result["components"]["schemas"]
    _bound_paths(result)
    _close(schemas)
    schemas |= _name_enums(schemas)
    if "NewJobRequest" in schemas:
        _add_recipes(schemas, getattr(request, "user", None))
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


def _name_enums(schemas: dict[str, Any]) -> dict[str, Any]:
    """Known sets of choices as components of their own, so that a client has one type for each. Returns these."""
    names = {frozenset(values): name for name, values in ENUMS.items()}
    for name, schema in schemas.items():
        schemas[name] = _with_named_enums(schema, names)
    return {name: {"type": "string", "enum": list(values)} for name, values in ENUMS.items()}


def _with_named_enums(value: Any, names: dict[frozenset[str], str]) -> Any:
    if isinstance(value, list):
        return [_with_named_enums(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    choices = value.get("enum")
    known = isinstance(choices, list) and names.get(
        frozenset(choice for choice in choices if choice is not None)
    )
    if not known:
        return {key: _with_named_enums(inner, names) for key, inner in value.items()}
    link = {"$ref": f"{COMPONENTS}{known}"}
    beside = {key: inner for key, inner in value.items() if key not in {"type", "enum"}}
    if None in choices:
        return {"oneOf": [link, {"type": "null"}]} | beside
    return {"allOf": [link]} | beside if beside else link


def _add_recipes(schemas: dict[str, Any], user: Any) -> None:
    """NewJobRequest becomes one alternative for each recipe, with the recipe's own config, all of them named."""
    names = registry.names()
    if not names:
        return
    is_known = user is not None and user.is_authenticated
    teams = list(policy.teams_of(user).values()) if is_known else []
    any_recipe = schemas["NewJobRequest"]
    components = {name: f"{_camel(name)}JobRequest" for name in names}
    for name, component in components.items():
        config = f"{_camel(name)}Config"
        schemas |= _config(name, config)
        schemas[component] = _alternative(any_recipe, registry.get(name), config, teams)
    links = {name: f"{COMPONENTS}{component}" for name, component in components.items()}
    schemas["RecipeJobRequest"] = {
        "oneOf": [{"$ref": link} for link in links.values()],
        "discriminator": {"propertyName": "recipe", "mapping": links},
    }
    schemas["ProgramJobRequest"] = _of_program(any_recipe, teams)
    schemas["Program"] = _closed_program()
    schemas["NewSweepRequest"]["properties"]["program"] = {"$ref": f"{COMPONENTS}Program"}
    schemas["NewJobRequest"] = {
        "oneOf": [{"$ref": f"{COMPONENTS}{one}"} for one in ("RecipeJobRequest", "ProgramJobRequest")]
    }


def _of_program(schema: dict[str, Any], teams: list[str]) -> dict[str, Any]:
    found = copy.deepcopy(schema) | {"description": "A script or a command, with the code that was brought."}
    fields = found["properties"]
    del fields["recipe"]
    fields["program"] = {"$ref": f"{COMPONENTS}Program"}
    fields["team"] = _team(schema, teams)
    found["required"] = ["job_name", "program", "code"]
    return found


def _closed_program() -> dict[str, Any]:
    found = Program.model_json_schema()
    found.pop("title", None)
    for field in found["properties"].values():
        field.pop("title", None)
    return found


def _team(schema: dict[str, Any], teams: list[str]) -> dict[str, Any]:
    return {"enum": [*teams, None], "description": schema["properties"]["team"].get("description", "")}


def _alternative(
    schema: dict[str, Any], info: registry.RecipeInfo, config: str, teams: list[str]
) -> dict[str, Any]:
    found = copy.deepcopy(schema) | {"description": f"{info.title}. {info.description}"}
    fields = found["properties"]
    fields["recipe"] = {"type": "string", "const": info.name}
    fields["config"] = {"$ref": f"{COMPONENTS}{config}"}
    fields["team"] = _team(schema, teams)
    for name in OF_PROGRAMS:
        fields.pop(name, None)
    found["required"] = ["job_name", "recipe"]
    return found


def _config(recipe: str, component: str) -> dict[str, Any]:
    """The schema of the recipe's config, and those that it is made of, as components. A title would rename them."""
    schema = copy.deepcopy(registry.schema(recipe))
    definitions = schema.pop("$defs", {})
    links = {f"#/$defs/{name}": f"{COMPONENTS}{_camel(recipe)}{name}" for name in definitions}
    found = {component: schema} | {f"{_camel(recipe)}{name}": inner for name, inner in definitions.items()}
    for one in found.values():
        one.pop("title", None)
    for field in schema["properties"].values():
        field.pop("group", None)
        if field.get("type") == "string" and "enum" not in field and "pattern" not in field:
            field |= {"pattern": "^[^\\u0000]*$", "maxLength": field.get("maxLength", 1000)}
    return _linked(found, links)


def _linked(value: Any, links: dict[str, str]) -> Any:
    """References that point into the recipe's own schema, pointed at the components instead."""
    if isinstance(value, list):
        return [_linked(item, links) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: links.get(inner, inner) if key == "$ref" else _linked(inner, links)
        for key, inner in value.items()
    }


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in re.split(r"[^0-9a-zA-Z]+", name))
