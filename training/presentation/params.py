"""Query parameters: each view lists what it takes, the same list is the schema, and anything else is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from heimdall.errors import InvalidInput

BIGGEST = 2**63 - 1
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE = re.compile(r"-?[0-9]{1,19}")


@dataclass(frozen=True)
class Param:
    name: str
    description: str
    default: Any = None
    choices: tuple[str, ...] = ()
    many: bool = False  # may be given several times, or with commas
    longest: int = 200
    most: int | None = None  # values, where there may be many
    schema: dict[str, Any] = field(default_factory=dict, hash=False)

    def read(self, values: list[str]) -> Any:
        texts = [text for value in values for text in (value.split(",") if self.many else [value])]
        if not self.many and len(texts) > 1:
            raise ValueError("Give it once.")
        read = [self.read_one(text) for text in texts]
        return read if self.many else read[0]

    def read_one(self, text: str) -> Any:
        if self.choices and text not in self.choices:
            raise ValueError(f"{text[:60]!r} is not one of: {', '.join(self.choices)}.")
        if len(text) > self.longest:
            raise ValueError(f"At most {self.longest} characters.")
        return text

    def one_schema(self) -> dict[str, Any]:
        return (
            {"type": "string", "enum": list(self.choices)}
            if self.choices
            else {"type": "string", "maxLength": self.longest}
        )

    def claims(self, name: str) -> bool:
        """Whether a parameter of this name is another way to give this one."""
        return False

    def read_claimed(self, name: str, values: list[str]) -> list[Any]:
        raise NotImplementedError

    def declare(self) -> OpenApiParameter:
        one = self.one_schema() | (
            {"default": self.default} if self.default is not None and not self.many else {}
        )
        bounds = {"minItems": 1} | ({"maxItems": self.most} if self.most else {})
        schema = {"type": "array", "items": one} | bounds if self.many else one
        return OpenApiParameter(
            self.name, schema, description=self.description, explode=True if self.many else None
        )


@dataclass(frozen=True)
class Number(Param):
    low: int = 0
    high: int = BIGGEST

    def read_one(self, text: str) -> int:
        if not _WHOLE.fullmatch(text) or not self.low <= int(text) <= self.high:
            raise ValueError(f"Give a whole number from {self.low} to {self.high}.")
        return int(text)

    def one_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


class Day(Param):
    """A date, of the server's time zone."""

    def read_one(self, text: str) -> date:
        try:
            found = date.fromisoformat(text) if _DATE.fullmatch(text) else None
        except ValueError:
            found = None
        if found is None or not 1970 <= found.year < 3000:
            raise ValueError("Give a date like 2026-01-31.")
        return found

    def one_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date", "pattern": "^(19[7-9]|2[0-9]{2})[0-9]-"}


def read(request: Request, params: tuple[Param, ...]) -> dict[str, Any]:
    """The values by name, defaults filled in. Raises InvalidInput for each that is unknown or bad."""
    given = request.query_params
    known = {param.name: param for param in params}
    claimed = {
        name: next((param for param in params if param.claims(name)), None)
        for name in given
        if name not in known
    }
    refused = {
        name[:100]: [f"There is no parameter {name[:100]}."]
        for name, param in claimed.items()
        if param is None
    }
    values = {param.name: param.default for param in params}
    for name, param in known.items():
        if name in given:
            try:
                values[name] = param.read(given.getlist(name))
            except ValueError as error:
                refused[name] = [str(error)]
    for name, claimant in claimed.items():
        if claimant is not None:
            try:
                more = claimant.read_claimed(name, given.getlist(name))
                values[claimant.name] = [*(values[claimant.name] or []), *more]
            except ValueError as error:
                refused[name[:100]] = [str(error)]
    if refused:
        raise InvalidInput(refused)
    return values


AFTER = Number("after", "Show what comes after this one: the cursor of the last you have seen.", default=0)
LIMIT = Number("limit", "How many at most.", default=200, low=1, high=1000)
PAGE = Number("page", "The number of the page, from 1.", default=1, low=1, high=1_000_000_000)
PAGE_SIZE = Number("page_size", "How many on a page.", default=50, low=1, high=200)
CURSOR = Param("cursor", "Where to go on: as it stands in the `next` and `previous` of a page.", longest=2000)
