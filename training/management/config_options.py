"""A config on the command line: a file of JSON, and single fields that go over it."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from django.core.management.base import CommandParser

from heimdall.errors import InvalidInput


def add_to(parser: CommandParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="a JSON object of config fields; - reads standard input"
    )
    parser.add_argument(
        "--set",
        dest="fields",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="one config field; may be given again",
    )


def read(options: dict[str, Any]) -> dict[str, Any]:
    config = _read_file(options["config"]) if options["config"] else {}
    for text in options["fields"]:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidInput({"config": [f"{text!r} is not of the form FIELD=VALUE."]})
        try:
            config[name] = json.loads(value)
        except (ValueError, RecursionError):
            config[name] = value
    return config


def _read_file(path: str) -> dict[str, Any]:
    try:
        with contextlib.nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8") as file:
            config = json.load(file)
    except OSError as error:
        raise InvalidInput({"config": [f"{path} cannot be read: {error.strerror}."]}) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput({"config": [f"{path} is not JSON: {error}."]}) from error
    if not isinstance(config, dict):
        raise InvalidInput({"config": [f"{path} is not an object of fields and values."]})
    return config
