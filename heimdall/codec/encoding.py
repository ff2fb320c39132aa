"""The tagged encoding of a checkpoint: what JSON alone would change comes back as it was, types too.

Plain values stay plain JSON. Everything else becomes an object with the key "$", which names what it is; a
dict that has that key itself, or keys that are no strings, is written as pairs. Tensors and arrays are left
out of the text: they become named blobs, and the text refers to them by name. Types are matched exactly, so
that a subclass is never saved as its base by accident; what is not known is refused. Nothing is pickled,
nothing imported by name.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from heimdall.codec.errors import CannotDecode, CannotEncode, readable, where
from heimdall.codec.tags import TAG, TAGS, Node, Path, to_json
from heimdall.codec.tensors import (
    NUMPY_TAGS,
    Blob,
    array_of,
    blob_of_array,
    blob_of_tensor,
    bytes_of,
    check_tensor_is_kept,
    facts_of_array,
    facts_of_tensor,
    identity_of,
    tensor_of,
)

MAX_DEPTH = 64

_BY_NAME = {tag.name: tag for tag in (*TAGS, *NUMPY_TAGS)}
_BY_TYPE = {tag.kind: tag for tag in TAGS if tag.kind is not None}


@dataclass
class Encoded:
    text: str
    blobs: dict[str, Blob]
    aliases: dict[str, str]  # the name a shared tensor would have had -> the name under which it is stored


def encode(value: Any) -> Encoded:
    encoder = Encoder()
    text = to_json(encoder.encode(value, ()))
    return Encoded(text, encoder.blobs, encoder.aliases)


def decode(text: str, blobs: dict[str, Blob]) -> Any:
    """The value again. Tensors take over the memory of the blobs; what was shared is shared again."""
    try:
        return Decoder(blobs).decode(json.loads(text))
    except CannotDecode:
        raise
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        RuntimeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise CannotDecode(f"{type(error).__name__}: {error}") from error


def check(value: Any) -> None:
    """Raise CannotEncode for what encode() would refuse. No tensor is copied, from no device."""
    to_json(Encoder(keeps_blobs=False).encode(value, ()))


def copied(value: Any) -> Any:
    """What a file would give back, without the file."""
    encoded = encode(value)
    blobs = {}
    for name, blob in encoded.blobs.items():
        source = memoryview(blob.data)  # type: ignore[arg-type]
        data = torch.empty(source.nbytes, dtype=torch.uint8)
        bytes_of(data)[:] = source
        blobs[name] = Blob(blob.dtype, blob.shape, data)
    return decode(encoded.text, blobs)


class Encoder:
    def __init__(self, *, keeps_blobs: bool = True) -> None:
        self._keeps_blobs = keeps_blobs
        self.blobs: dict[str, Blob] = {}
        self.aliases: dict[str, str] = {}
        self._names: set[str] = {"__metadata__"}
        self._seen: dict[tuple[Any, ...], str] = {}
        self._kept: list[Any] = []  # originals whose addresses stand in _seen must stay alive

    def encode(self, value: Any, path: Path) -> Any:
        if len(path) > MAX_DEPTH:
            raise CannotEncode(f"{where(path)}: nested more than {MAX_DEPTH} deep, or within itself")
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**63 else self._tagged("int", value, path)
        if kind is float:
            return value if math.isfinite(value) else self._tagged("float", value, path)
        if kind is dict:
            return self._dict(value, path)
        if kind is list:
            return self.items(value, path)
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            return self._tensor(value, path)
        if kind is np.ndarray:
            return self._array(value, path)
        return self._tagged(_tag_for(value, path), value, path)

    def pairs(self, value: Any, path: Path) -> list[Any]:
        return [
            [self.encode(key, (*path, "key")), self.encode(item, (*path, key))] for key, item in value.items()
        ]

    def items(self, value: Any, path: Path) -> list[Any]:
        return [self.encode(item, (*path, index)) for index, item in enumerate(value)]

    def _tagged(self, name: str, value: Any, path: Path) -> Node:
        return {TAG: name} | _BY_NAME[name].encode(self, value, path)

    def _dict(self, value: dict[Any, Any], path: Path) -> Node:
        if all(type(key) is str for key in value) and TAG not in value:
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        return self._tagged("dict", value, path)

    def _tensor(self, value: torch.Tensor, path: Path) -> Node:
        plain = value.detach()
        check_tensor_is_kept(plain, path)
        name, is_new = self._place(identity_of(plain), value, path)
        if is_new and self._keeps_blobs:
            self.blobs[name] = blob_of_tensor(plain)
        return {TAG: "tensor", "v": name} | facts_of_tensor(value)

    def _array(self, value: "np.ndarray[Any, Any]", path: Path) -> Node:
        facts = facts_of_array(value, path)
        name, _ = self._place(None, value, path)
        if self._keeps_blobs:
            self.blobs[name] = blob_of_array(value)
        return {TAG: "array", "v": name} | facts

    def _place(self, identity: tuple[Any, ...] | None, value: Any, path: Path) -> tuple[str, bool]:
        wanted = "/".join(readable(part) for part in path) or "value"
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}#{number}"
        self._names.add(name)
        if identity in self._seen:
            self.aliases[name] = self._seen[identity]
            return self._seen[identity], False
        if identity is not None:
            self._seen[identity] = name
            self._kept.append(value)
        return name, True


def _tag_for(value: Any, path: Path) -> str:
    kind = type(value)
    if kind in _BY_TYPE:
        return _BY_TYPE[kind].name
    if isinstance(value, np.generic):
        return "np"
    if isinstance(value, np.dtype):  # dtypes of numpy have a class each
        return "np.dtype"
    if isinstance(value, type) and issubclass(value, np.generic):
        return "np.type"
    raise CannotEncode(
        f"{where(path)}: a checkpoint does not keep a {kind.__module__}.{kind.__qualname__}; "
        "state_dict() may hold tensors, arrays, numbers, strings, bytes and the standard containers"
    )


class Decoder:
    def __init__(self, blobs: dict[str, Blob]):
        self._blobs = blobs
        self._tensors: dict[str, torch.Tensor] = {}

    def decode(self, node: Any) -> Any:
        if isinstance(node, list):
            return self.items(node)
        if not isinstance(node, dict):
            return node
        if TAG not in node:
            return {key: self.decode(item) for key, item in node.items()}
        kind = node[TAG]
        if kind == "tensor":
            return self._tensor(node)
        if kind == "array":
            return array_of(self._blob(node["v"]), node)
        if kind not in _BY_NAME:
            raise CannotDecode(f"unknown tag {kind!r}")
        return _BY_NAME[kind].decode(self, node)

    def pairs(self, node: Any) -> list[tuple[Any, Any]]:
        return [(self.decode(key), self.decode(item)) for key, item in node]

    def items(self, node: Any) -> list[Any]:
        return [self.decode(item) for item in node]

    def _tensor(self, node: Node) -> torch.Tensor:
        name = node["v"]
        if name not in self._tensors:
            self._tensors[name] = tensor_of(self._blob(name), node)
        tensor = self._tensors[name]
        if "parameter" in node and type(tensor) is not torch.nn.Parameter:
            # A parameter and the plain tensor beside it keep sharing their memory.
            return torch.nn.Parameter(tensor, requires_grad=node["parameter"])
        return tensor

    def _blob(self, name: str) -> Blob:
        if name not in self._blobs:
            raise CannotDecode(f"there is no tensor {name!r}")
        return self._blobs[name]
