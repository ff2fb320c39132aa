"""The values that JSON has no form for, beside tensors: how each is written, and beside it how it is read.

A tag is the object that stands for such a value: its key "$" names the row of the table.
"""

import base64
import json
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from heimdall.codec.errors import CannotEncode, where

TAG = "$"
Path = tuple[Any, ...]
Node = dict[str, Any]


class Writer(Protocol):
    """What a tag asks of the encoder."""

    def encode(self, value: Any, path: Path) -> Any: ...

    def items(self, value: Any, path: Path) -> list[Any]: ...

    def pairs(self, value: Any, path: Path) -> list[Any]: ...


class Reader(Protocol):
    """What a tag asks of the decoder."""

    def items(self, node: Any) -> list[Any]: ...

    def pairs(self, node: Any) -> list[tuple[Any, Any]]: ...


class TaggedType(NamedTuple):
    name: str
    kind: type | None
    """The type that is matched exactly; None: the encoder knows when it is meant."""
    encode: Callable[[Writer, Any, Path], Node]
    decode: Callable[[Reader, Node], Any]


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _odd_float(value: float) -> str:
    bits = struct.pack(">d", value).hex()
    return {"7ff0000000000000": "inf", "fff0000000000000": "-inf", "7ff8000000000000": "nan"}.get(bits, bits)


def _plain_float(text: str) -> float:
    if text in ("inf", "-inf", "nan"):
        return float(text)
    return float(struct.unpack(">d", bytes.fromhex(text))[0])


def _sorted_set(writer: Writer, value: Any, path: Path) -> list[Any]:
    return sorted((writer.encode(item, (*path, "item")) for item in value), key=to_json)


def _factory_name(value: Any, path: Path) -> str:
    for name, factory in _FACTORIES.items():
        if factory is value.default_factory:
            return name
    raise CannotEncode(
        f"{where(path)}: a checkpoint does not keep a defaultdict of {value.default_factory!r}"
    )


def _base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "None": None,
    "int": int,
    "float": float,
    "list": list,
    "dict": dict,
    "set": set,
    "tuple": tuple,
    "str": str,
    "bool": bool,
}
_DTYPES = {_name_of(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}

TAGS = (
    TaggedType("int", None, lambda w, x, p: {"v": hex(x)}, lambda r, n: int(n["v"], 16)),
    TaggedType("float", None, lambda w, x, p: {"v": _odd_float(x)}, lambda r, n: _plain_float(n["v"])),
    TaggedType("dict", None, lambda w, x, p: {"v": w.pairs(x, p)}, lambda r, n: dict(r.pairs(n["v"]))),
    TaggedType("tuple", tuple, lambda w, x, p: {"v": w.items(x, p)}, lambda r, n: tuple(r.items(n["v"]))),
    TaggedType("set", set, lambda w, x, p: {"v": _sorted_set(w, x, p)}, lambda r, n: set(r.items(n["v"]))),
    TaggedType(
        "frozenset",
        frozenset,
        lambda w, x, p: {"v": _sorted_set(w, x, p)},
        lambda r, n: frozenset(r.items(n["v"])),
    ),
    TaggedType(
        "Counter",
        Counter,
        lambda w, x, p: {"v": w.pairs(x, p)},
        lambda r, n: Counter(dict(r.pairs(n["v"]))),
    ),
    TaggedType(
        "OrderedDict",
        OrderedDict,
        lambda w, x, p: {"v": w.pairs(x, p)},
        lambda r, n: OrderedDict(r.pairs(n["v"])),
    ),
    TaggedType(
        "defaultdict",
        defaultdict,
        lambda w, x, p: {"factory": _factory_name(x, p), "v": w.pairs(x, p)},
        lambda r, n: defaultdict(_FACTORIES[n["factory"]], r.pairs(n["v"])),
    ),
    TaggedType(
        "deque",
        deque,
        lambda w, x, p: {"maxlen": x.maxlen, "v": w.items(x, p)},
        lambda r, n: deque(r.items(n["v"]), maxlen=n["maxlen"]),
    ),
    TaggedType("bytes", bytes, lambda w, x, p: {"v": _base64(x)}, lambda r, n: _from_base64(n["v"])),
    TaggedType(
        "bytearray",
        bytearray,
        lambda w, x, p: {"v": _base64(x)},
        lambda r, n: bytearray(_from_base64(n["v"])),
    ),
    TaggedType(
        "complex",
        complex,
        lambda w, x, p: {"v": struct.pack("<dd", x.real, x.imag).hex()},
        lambda r, n: complex(*struct.unpack("<dd", bytes.fromhex(n["v"]))),
    ),
    TaggedType("torch.Size", torch.Size, lambda w, x, p: {"v": list(x)}, lambda r, n: torch.Size(n["v"])),
    TaggedType("torch.dtype", torch.dtype, lambda w, x, p: {"v": _name_of(x)}, lambda r, n: _DTYPES[n["v"]]),
    TaggedType(
        "torch.device", torch.device, lambda w, x, p: {"v": str(x)}, lambda r, n: torch.device(n["v"])
    ),
)
