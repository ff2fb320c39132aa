"""What the author of a recipe imports: `from heimdall import TrainingConfig, TrainingRecipe, shared`.

Names are loaded when they are first asked for. So importing `heimdall` loads neither torch nor Django, and a recipe's
config.py, which the web server reads, loads no torch either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heimdall.attached.attach import attach
    from heimdall.client.asynchronous.client import AsyncClient
    from heimdall.client.synchronous.client import Client
    from heimdall.recipes.base import Evaluation, GenerationRecipe, Part, Plan, Samples, TrainingRecipe
    from heimdall.recipes.config import (
        GenerationConfig,
        RecipeConfig,
        TrainingConfig,
        in_group,
        refuse,
        shared,
    )

__version__ = "0.2.0"

_HOMES = {
    "AsyncClient": "heimdall.client.asynchronous.client",
    "Client": "heimdall.client.synchronous.client",
    "attach": "heimdall.attached.attach",
    "GenerationConfig": "heimdall.recipes.config",
    "RecipeConfig": "heimdall.recipes.config",
    "TrainingConfig": "heimdall.recipes.config",
    "in_group": "heimdall.recipes.config",
    "refuse": "heimdall.recipes.config",
    "shared": "heimdall.recipes.config",
    "Evaluation": "heimdall.recipes.base",
    "GenerationRecipe": "heimdall.recipes.base",
    "Part": "heimdall.recipes.base",
    "Plan": "heimdall.recipes.base",
    "Samples": "heimdall.recipes.base",
    "TrainingRecipe": "heimdall.recipes.base",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Evaluation",
    "GenerationConfig",
    "GenerationRecipe",
    "Part",
    "Plan",
    "RecipeConfig",
    "Samples",
    "TrainingConfig",
    "TrainingRecipe",
    "attach",
    "in_group",
    "refuse",
    "shared",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"heimdall has no {name!r}; it has {', '.join(sorted(_HOMES))}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
