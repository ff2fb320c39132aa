"""Packages that only some of what the client can do needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from heimdall.client.errors import MissingPackage


def required(name: str) -> Any:
    """The imported package; a sentence that says how to get it where there is none."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingPackage(f"This needs the package {package}: pip install {package}") from error
