"""Which recipes there are, what their configs look like, and whether a config is good. Imports no torch."""

import difflib
import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from heimdall import recipes
from heimdall.errors import HeimdallError, InvalidConfig, UnknownRecipe
from heimdall.recipes.config import GenerationConfig, RecipeConfig, TrainingConfig

C = TypeVar("C", bound=RecipeConfig)
VARIABLE = "HEIMDALL_RECIPES"
MAX_CONFIG_CHARACTERS = 100_000
MAX_DEPTH = 20

_BASES: dict[str, type[RecipeConfig]] = {"training": TrainingConfig, "synthetic_data": GenerationConfig}
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_DOTTED_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


class BadRecipe(HeimdallError):
    """A package that was named as a recipe is not one."""

    code = "bad_recipe"


@dataclass(frozen=True)
class RecipeInfo:
    name: str
    package: str
    title: str
    description: str
    job_type: str
    config_class: type[RecipeConfig]
    read_by: str
    """The recipe that trains on the data that this one makes."""

    def estimate_memory_bytes(self, config: dict[str, Any]) -> int | None:
        """What a training with this resolved config needs, about; None where the recipe does not say."""
        estimate = getattr(_config_module(self.package), "estimate_memory_bytes", None)
        return int(estimate(self.config_class.model_validate_json(json.dumps(config)))) if estimate else None


def names() -> list[str]:
    """The shipped recipes, then those of HEIMDALL_RECIPES."""
    return list(_packages())


def get(name: str) -> RecipeInfo:
    packages = _packages()
    if not isinstance(name, str) or name not in packages:
        raise UnknownRecipe(str(name)[:100], list(packages))
    return _load(name, packages[name])


def usable() -> list[RecipeInfo]:
    """Those that can be used, for a choice; of the others `problems` says why not."""
    found = []
    for name, package in _packages().items():
        try:
            found.append(_load(name, package))
        except BadRecipe:
            continue
    return found


def reader_of(name: str) -> str:
    """The recipe that is trained on the data of this one; empty where none is known here."""
    readers = {info.name: info.read_by for info in usable()}
    return readers[name] if readers.get(name) in readers else ""


def schema(name: str) -> dict[str, Any]:
    """The JSON schema of a recipe's config: fields in order, with help, default, bounds and group."""
    info = get(name)
    return info.config_class.model_json_schema() | {"title": info.title, "description": info.description}


def validate(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    """The config with every default filled in; InvalidConfig names each field that has to change."""
    config = checked(get(name).config_class, raw).model_dump(mode="json")
    _require_storable_texts(config)
    return config


def checked(config_class: type[C], raw: dict[str, Any]) -> C:
    """The same of any such class, as an object of it."""
    text = _as_json(raw)
    try:
        return config_class.model_validate_json(text)
    except ValidationError as error:
        raise InvalidConfig(_messages(error, config_class)) from None


def free_form(raw: Any) -> dict[str, Any]:
    """A config that no class describes, as JSON has it: an object of bounded size and depth."""
    found: dict[str, Any] = json.loads(_as_json(raw), parse_constant=_refuse_constant)
    _require_storable_texts(found)
    return found


def problems() -> list[str]:
    """One sentence for each recipe that cannot be used; looked at when a server or a worker starts."""
    try:
        packages = _packages()
    except BadRecipe as error:
        return [str(error)]
    found = []
    for name, package in packages.items():
        try:
            _load(name, package)
        except BadRecipe as error:
            found.append(str(error))
    return found


def _packages() -> dict[str, str]:
    shipped = {name: f"{recipes.__name__}.{name}" for name in _shipped()}
    return shipped | _users_own(os.environ.get(VARIABLE, ""), frozenset(shipped))


@lru_cache
def _shipped() -> tuple[str, ...]:
    """Packages beside this file that are recipes; others hold what recipes share."""
    folders = (folder for place in recipes.__path__ for folder in Path(place).iterdir())
    return tuple(sorted(folder.name for folder in folders if (folder / "recipe.py").is_file()))


@lru_cache
def _users_own(text: str, taken: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for package in filter(None, (part.strip() for part in text.split(","))):
        name = package.rpartition(".")[2]
        if not _DOTTED_NAME.fullmatch(package):
            raise BadRecipe(f"{VARIABLE}: {package!r} is not the name of a package.")
        if name in taken or name in found:
            raise BadRecipe(
                f"{VARIABLE}: there is already a recipe {name!r}; give the package {package} another name."
            )
        found[name] = package
    return found


@lru_cache
def _load(name: str, package: str) -> RecipeInfo:
    module = _config_module(package)
    job_type = getattr(module, "JOB_TYPE", "training")
    if job_type not in _BASES:
        raise BadRecipe(f"Recipe {name}: JOB_TYPE must be one of {', '.join(_BASES)}, not {job_type!r}.")
    config_class = getattr(module, "Config", None)
    base = _BASES[job_type]
    if not (isinstance(config_class, type) and issubclass(config_class, base)):
        raise BadRecipe(f"Recipe {name}: {package}.config needs a class Config({base.__name__}).")
    try:
        config_class()
    except ValidationError as error:
        raise BadRecipe(
            f"Recipe {name}: its defaults are no valid config: {_messages(error, config_class)}"
        ) from None
    if importlib.util.find_spec(f"{package}.recipe") is None:
        raise BadRecipe(f"Recipe {name}: the module {package}.recipe is missing.")
    title = str(getattr(module, "TITLE", "") or name.replace("_", " ").capitalize())
    description, read_by = (str(getattr(module, word, "")) for word in ("DESCRIPTION", "READ_BY"))
    return RecipeInfo(name, package, title, description, job_type, config_class, read_by)


def _config_module(package: str) -> ModuleType:
    had_torch = "torch" in sys.modules
    try:
        module = importlib.import_module(f"{package}.config")
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{package}.".startswith(f"{error.name}."):
            raise BadRecipe(
                f"{VARIABLE}: there is no package {package}. Is the folder above it in PYTHONPATH?"
            ) from error
        raise BadRecipe(
            f"Recipe {package}: its config cannot be imported ({type(error).__name__}: {error})."
        ) from error
    if "torch" in sys.modules and not had_torch:
        raise BadRecipe(f"Recipe {package}: its config imports torch; only {package}.recipe may do that.")
    return module


def _as_json(raw: Any) -> str:
    if not isinstance(raw, dict):
        raise InvalidConfig({"config": ["The config must be an object of fields and values."]})
    if _depth(raw) > MAX_DEPTH:
        raise InvalidConfig({"config": [f"The config is nested more than {MAX_DEPTH} deep."]})
    for field in raw:
        if not isinstance(field, str):
            raise InvalidConfig({str(field)[:60]: ["The name of a field must be a string."]})
    try:
        text = json.dumps(raw)
    except (TypeError, ValueError) as error:
        raise InvalidConfig({"config": [f"The config cannot be written as JSON: {error}."]}) from None
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise InvalidConfig({"config": [f"The config is longer than {MAX_CONFIG_CHARACTERS} characters."]})
    return text


def _require_storable_texts(raw: Any) -> None:
    if any(_NOT_STORABLE.search(text) for text in _texts(raw)):
        sentence = "The config holds a NUL or half of a surrogate pair, which no database takes."
        raise InvalidConfig({"config": [sentence]})


def _texts(value: Any) -> Iterator[str]:
    """All of them, names too, without recursion."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            left += [*item, *item.values()]
        elif isinstance(item, list | tuple):
            left += item


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidConfig({"config": [f"The config holds {name}, which is no number in JSON."]})


def _depth(value: Any) -> int:
    """How deep containers are nested, looked at without recursion and no deeper than it matters."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list | tuple):
                inner.extend(item)
        level, depth = [item for item in inner if isinstance(item, dict | list | tuple)], depth + 1
    return depth


def _messages(error: ValidationError, config_class: type[RecipeConfig]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        context = detail.get("ctx", {})
        location = ".".join(str(part) for part in detail["loc"])
        field = str(context["field"]) if detail["type"] == "refused" else location[:100] or "config"
        message = _message(field, dict(detail), config_class)
        if message not in found.setdefault(field, []):
            found[field].append(message)
    return found


def _message(field: str, detail: dict[str, Any], config_class: type[RecipeConfig]) -> str:
    kind = detail["type"]
    if kind == "refused":
        return str(detail["msg"])
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(field, list(config_class.model_fields), n=1)
        hint = (
            f"; did you mean {near[0]}?"
            if near
            else f". Known fields: {', '.join(config_class.model_fields)}."
        )
        return f"{field} is not a field of this {config_class.called}{hint}"
    if kind == "missing":
        return f"{field} is needed; give it a value."
    if kind == "json_invalid":
        return "The config holds a number or a text that cannot be read."
    wanted = _wanted(config_class.model_json_schema()["properties"].get(field, {}))
    if not wanted:
        return f"{field}: {detail['msg']}."
    return f"{field} must be {wanted}, not {_shown(detail.get('input'))}."


def _wanted(field: dict[str, Any]) -> str:
    """What a field takes, in words, from its schema; empty where that is more than a simple type."""
    if "enum" in field:
        return "one of " + ", ".join(str(value) for value in field["enum"] if value != "")
    bounds = _bounds(field)
    match field.get("type"):
        case "integer":
            return f"a whole number{bounds}"
        case "number":
            return f"a number{bounds}"
        case "boolean":
            return "true or false"
        case "string" if "pattern" not in field:
            longest = field.get("maxLength", RecipeConfig.model_config["str_max_length"])
            return f"a text of at most {longest} characters"
    return ""


def _bounds(field: dict[str, Any]) -> str:
    low, above = field.get("minimum"), field.get("exclusiveMinimum")
    high, below = field.get("maximum"), field.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:.10g}"
    parts = [f"at least {low:g}"] if low is not None else [f"above {above:g}"] if above is not None else []
    parts += (
        [f"at most {high:.10g}"] if high is not None else [f"below {below:.10g}"] if below is not None else []
    )
    return " " + " and ".join(parts) if parts else ""


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
