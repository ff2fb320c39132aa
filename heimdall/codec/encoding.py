"""The tagged encoding of a checkpoint: what JSON alone would change comes back as it was, types too.

Plain values stay plain JSON. Everything else becomes an object with the key "$", which names what it is; a
dict that has that key itself, or keys that are no strings, is written as pairs. Tensors and arrays are left
out of the text: they become named blobs, and the text refers to them by name. Types are matched exactly, so
that a subclass is never saved as its base by accident; what is not known is refused. Nothing is pickled,
nothing imported by name.
"""

import base64
import json
import math
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

TAG = "$"
MAX_DEPTH = 64

_TORCH_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}
_NAMES_TORCH = {name: dtype for dtype, name in _TORCH_NAMES.items()}
# The file format has no name for these; they are stored as pairs of real numbers.
_AS_REAL = {torch.complex128: torch.float64, torch.complex32: torch.float16}
_AS_COMPLEX = {str(dtype).removeprefix("torch."): dtype for dtype in _AS_REAL}
_DTYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
}
_NUMPY_NAMES = {
    "f8": "F64",
    "f4": "F32",
    "f2": "F16",
    "i8": "I64",
    "i4": "I32",
    "i2": "I16",
    "i1": "I8",
    "u8": "U64",
    "u4": "U32",
    "u2": "U16",
    "u1": "U8",
    "b1": "BOOL",
    "c8": "C64",
}
_NUMPY_DTYPE = re.compile(r"[<>|=](?:f[248]|[iu][1248]|b1|c8|c16|[mM]8(?:\[[0-9]*[A-Za-z]+\])?)")
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


class CannotEncode(TypeError):
    """A value has a type that a checkpoint does not keep; the message says where it stands."""


class CannotDecode(ValueError):
    """The text or its blobs do not fit together."""


@dataclass
class Blob:
    """The raw bytes of one tensor, in C order, with the name of its type as the file format has it."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview | torch.Tensor  # when read back: a flat tensor of bytes that owns its memory


@dataclass
class Encoded:
    text: str
    blobs: dict[str, Blob]
    aliases: dict[str, str]  # the name a shared tensor would have had -> the name under which it is stored


def encode(value: Any) -> Encoded:
    encoder = _Encoder()
    text = to_json(encoder.encode(value, ()))
    return Encoded(text, encoder.blobs, encoder.aliases)


def decode(text: str, blobs: dict[str, Blob]) -> Any:
    """The value again. Tensors take over the memory of the blobs; what was shared is shared again."""
    try:
        return _Decoder(blobs).decode(json.loads(text))
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


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, not a copy."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


class _Encoder:
    def __init__(self) -> None:
        self.blobs: dict[str, Blob] = {}
        self.aliases: dict[str, str] = {}
        self._names: set[str] = {"__metadata__"}
        self._seen: dict[tuple[Any, ...], str] = {}
        self._kept: list[Any] = []  # originals whose addresses stand in _seen must stay alive

    def encode(self, value: Any, path: tuple[Any, ...]) -> Any:
        if len(path) > MAX_DEPTH:
            raise CannotEncode(f"{_where(path)}: nested more than {MAX_DEPTH} deep, or within itself")
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**63 else {TAG: "int", "v": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "v": _odd_float(value)}
        if kind is dict:
            return self._dict(value, path)
        if kind is list:
            return [self.encode(item, (*path, index)) for index, item in enumerate(value)]
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            return self._tensor(value, path)
        if kind is np.ndarray:
            return self._array(value, path)
        if isinstance(value, np.generic):
            return self._numpy_scalar(value, path)
        if kind in _TAGGED:
            return {TAG: _TAGGED[kind][0]} | _TAGGED[kind][1](self, value, path)
        # dtypes of numpy have a class each
        if isinstance(value, np.dtype):
            return {TAG: "np.dtype", "v": _numpy_dtype(value, path)}
        if isinstance(value, type) and issubclass(value, np.generic):
            return {TAG: "np.type", "v": _numpy_dtype(np.dtype(value), path)}
        raise CannotEncode(
            f"{_where(path)}: a checkpoint does not keep a {kind.__module__}.{kind.__qualname__}; "
            "state_dict() may hold tensors, arrays, numbers, strings, bytes and the standard containers"
        )

    def pairs(self, value: Any, path: tuple[Any, ...]) -> list[Any]:
        return [
            [self.encode(key, (*path, "key")), self.encode(item, (*path, key))] for key, item in value.items()
        ]

    def items(self, value: Any, path: tuple[Any, ...]) -> list[Any]:
        return [self.encode(item, (*path, index)) for index, item in enumerate(value)]

    def _dict(self, value: dict[Any, Any], path: tuple[Any, ...]) -> Any:
        if all(type(key) is str for key in value) and TAG not in value:
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        return {TAG: "dict", "v": self.pairs(value, path)}

    def _tensor(self, value: torch.Tensor, path: tuple[Any, ...]) -> Any:
        if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
            raise CannotEncode(f"{_where(path)}: a checkpoint keeps dense tensors only, not {value.layout}")
        plain = value.detach()
        made_real = _AS_REAL.get(plain.dtype)
        if made_real is None and plain.dtype not in _TORCH_NAMES:
            raise CannotEncode(f"{_where(path)}: a checkpoint does not keep tensors of {plain.dtype}")
        identity = (
            plain.data_ptr(),
            plain.device,
            plain.dtype,
            plain.shape,
            plain.stride(),
            plain.is_conj(),
        )
        name, is_new = self._place(identity if plain.numel() else None, value, path)
        if is_new:
            flat = plain.resolve_conj().resolve_neg().contiguous().cpu()
            if made_real is not None:
                flat = torch.view_as_real(flat)
            dtype = _TORCH_NAMES[made_real or plain.dtype]
            self.blobs[name] = Blob(dtype, tuple(flat.shape), bytes_of(flat))
        node: dict[str, Any] = {TAG: "tensor", "v": name}
        if made_real is not None:
            node["dtype"] = str(plain.dtype).removeprefix("torch.")
        if not plain.is_contiguous() and _is_dense(plain):
            node["stride"] = list(plain.stride())
        if type(value) is torch.nn.Parameter:
            node["parameter"] = value.requires_grad
        return node

    def _array(self, value: np.ndarray[Any, Any], path: tuple[Any, ...]) -> Any:
        dtype = _numpy_dtype(value.dtype, path)
        name, _ = self._place(None, value, path)
        flat = np.ascontiguousarray(value).reshape(value.shape)
        stored = _NUMPY_NAMES.get(value.dtype.str[1:]) if value.dtype.isnative else None
        data = memoryview(flat.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        self.blobs[name] = Blob(stored or "U8", value.shape if stored else (data.nbytes,), data)
        node: dict[str, Any] = {
            TAG: "array",
            "v": name,
            "dtype": dtype,
            "shape": list(value.shape),
        }
        if value.flags.f_contiguous and not value.flags.c_contiguous:
            node["order"] = "F"
        return node

    def _numpy_scalar(self, value: np.generic, path: tuple[Any, ...]) -> Any:
        return {
            TAG: "np",
            "dtype": _numpy_dtype(value.dtype, path),
            "v": value.tobytes().hex(),
        }

    def _place(self, identity: tuple[Any, ...] | None, value: Any, path: tuple[Any, ...]) -> tuple[str, bool]:
        wanted = "/".join(_readable(part) for part in path) or "value"
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


class _Decoder:
    def __init__(self, blobs: dict[str, Blob]):
        self._blobs = blobs
        self._tensors: dict[str, torch.Tensor] = {}

    def decode(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        if TAG not in node:
            return {key: self.decode(item) for key, item in node.items()}
        kind = node[TAG]
        if kind == "tensor":
            return self._tensor(node)
        if kind == "array":
            return self._array(node)
        if kind not in _UNTAGGED:
            raise CannotDecode(f"unknown tag {kind!r}")
        return _UNTAGGED[kind](self, node)

    def pairs(self, node: Any) -> list[tuple[Any, Any]]:
        return [(self.decode(key), self.decode(item)) for key, item in node]

    def items(self, node: Any) -> list[Any]:
        return [self.decode(item) for item in node]

    def _tensor(self, node: dict[str, Any]) -> torch.Tensor:
        name = node["v"]
        if name not in self._tensors:
            self._tensors[name] = self._strided(_as_tensor(self._blob(name)), node)
        tensor = self._tensors[name]
        if "parameter" in node and type(tensor) is not torch.nn.Parameter:
            # A parameter and the plain tensor beside it keep sharing their memory.
            return torch.nn.Parameter(tensor, requires_grad=node["parameter"])
        return tensor

    def _strided(self, tensor: torch.Tensor, node: dict[str, Any]) -> torch.Tensor:
        if "dtype" in node:
            tensor = torch.view_as_complex(tensor)
            if tensor.dtype is not _AS_COMPLEX[node["dtype"]]:
                raise CannotDecode(f"{node['v']} is not {node['dtype']}")
        if "stride" in node:
            laid_out = _empty_dense(tensor, node["stride"])
            tensor = laid_out.copy_(tensor)
        return tensor

    def _array(self, node: dict[str, Any]) -> np.ndarray[Any, Any]:
        dtype = _checked_numpy_dtype(node["dtype"])
        blob = self._blob(node["v"])
        assert isinstance(blob.data, torch.Tensor)
        array: np.ndarray[Any, Any] = blob.data.reshape(-1).numpy().view(dtype).reshape(node["shape"])
        return array.copy(order="F" if node.get("order") == "F" else "C")

    def _blob(self, name: str) -> Blob:
        if name not in self._blobs:
            raise CannotDecode(f"there is no tensor {name!r}")
        return self._blobs[name]


_Tagged = tuple[str, Callable[[_Encoder, Any, tuple[Any, ...]], dict[str, Any]]]
_TAGGED: dict[type, _Tagged] = {
    tuple: ("tuple", lambda e, x, p: {"v": e.items(x, p)}),
    set: ("set", lambda e, x, p: {"v": _sorted_set(e, x, p)}),
    frozenset: ("frozenset", lambda e, x, p: {"v": _sorted_set(e, x, p)}),
    Counter: ("Counter", lambda e, x, p: {"v": e.pairs(x, p)}),
    OrderedDict: ("OrderedDict", lambda e, x, p: {"v": e.pairs(x, p)}),
    defaultdict: (
        "defaultdict",
        lambda e, x, p: {"factory": _factory_name(x, p), "v": e.pairs(x, p)},
    ),
    deque: ("deque", lambda e, x, p: {"maxlen": x.maxlen, "v": e.items(x, p)}),
    bytes: ("bytes", lambda e, x, p: {"v": base64.b64encode(x).decode()}),
    bytearray: ("bytearray", lambda e, x, p: {"v": base64.b64encode(x).decode()}),
    complex: (
        "complex",
        lambda e, x, p: {"v": struct.pack("<dd", x.real, x.imag).hex()},
    ),
    torch.Size: ("torch.Size", lambda e, x, p: {"v": list(x)}),
    torch.dtype: ("torch.dtype", lambda e, x, p: {"v": str(x).removeprefix("torch.")}),
    torch.device: ("torch.device", lambda e, x, p: {"v": str(x)}),
}
_UNTAGGED: dict[str, Callable[[_Decoder, dict[str, Any]], Any]] = {
    "int": lambda d, n: int(n["v"], 16),
    "float": lambda d, n: _plain_float(n["v"]),
    "dict": lambda d, n: dict(d.pairs(n["v"])),
    "tuple": lambda d, n: tuple(d.items(n["v"])),
    "set": lambda d, n: set(d.items(n["v"])),
    "frozenset": lambda d, n: frozenset(d.items(n["v"])),
    "Counter": lambda d, n: Counter(dict(d.pairs(n["v"]))),
    "OrderedDict": lambda d, n: OrderedDict(d.pairs(n["v"])),
    "defaultdict": lambda d, n: defaultdict(_FACTORIES[n["factory"]], d.pairs(n["v"])),
    "deque": lambda d, n: deque(d.items(n["v"]), maxlen=n["maxlen"]),
    "bytes": lambda d, n: base64.b64decode(n["v"], validate=True),
    "bytearray": lambda d, n: bytearray(base64.b64decode(n["v"], validate=True)),
    "complex": lambda d, n: complex(*struct.unpack("<dd", bytes.fromhex(n["v"]))),
    "torch.Size": lambda d, n: torch.Size(n["v"]),
    "torch.dtype": lambda d, n: _DTYPES[n["v"]],
    "torch.device": lambda d, n: torch.device(n["v"]),
    "np": lambda d, n: np.frombuffer(bytes.fromhex(n["v"]), _checked_numpy_dtype(n["dtype"]))[0],
    "np.dtype": lambda d, n: _checked_numpy_dtype(n["v"]),
    "np.type": lambda d, n: _checked_numpy_dtype(n["v"]).type,
}


def _where(path: tuple[Any, ...]) -> str:
    return "/".join(_readable(part) for part in path) or "parts"


def _readable(part: Any) -> str:
    text = (
        part
        if type(part) is str
        else str(part)
        if type(part) in (int, float, bool, tuple)
        else type(part).__name__
    )
    text = text[:200]
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _odd_float(value: float) -> str:
    bits = struct.pack(">d", value).hex()
    return {
        "7ff0000000000000": "inf",
        "fff0000000000000": "-inf",
        "7ff8000000000000": "nan",
    }.get(bits, bits)


def _plain_float(text: str) -> float:
    return (
        float(text) if text in ("inf", "-inf", "nan") else float(struct.unpack(">d", bytes.fromhex(text))[0])
    )


def _sorted_set(encoder: _Encoder, value: Any, path: tuple[Any, ...]) -> list[Any]:
    return sorted((encoder.encode(item, (*path, "item")) for item in value), key=to_json)


def _factory_name(value: Any, path: tuple[Any, ...]) -> str:
    for name, factory in _FACTORIES.items():
        if factory is value.default_factory:
            return name
    raise CannotEncode(
        f"{_where(path)}: a checkpoint does not keep a defaultdict of {value.default_factory!r}"
    )


def _numpy_dtype(dtype: Any, path: tuple[Any, ...]) -> str:
    text = str(dtype.str)
    if dtype.hasobject or not _NUMPY_DTYPE.fullmatch(text):
        raise CannotEncode(f"{_where(path)}: a checkpoint does not keep numpy values of {dtype}")
    return text


def _checked_numpy_dtype(text: str) -> Any:
    if not _NUMPY_DTYPE.fullmatch(text):
        raise CannotDecode(f"unknown numpy type {text!r}")
    return np.dtype(text)


def _as_tensor(blob: Blob) -> torch.Tensor:
    assert isinstance(blob.data, torch.Tensor)
    return blob.data.view(_NAMES_TORCH[blob.dtype]).reshape(blob.shape)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether some order of the dimensions makes the tensor contiguous."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return tensor.numel() > 0


def _empty_dense(like: torch.Tensor, stride: list[int]) -> torch.Tensor:
    # Checked by plain numbers first: a false stride could ask for any amount of memory.
    whole = sum((size - 1) * step for size, step in zip(like.shape, stride, strict=True)) + 1
    if whole > like.numel() * 2 or min(stride) < 0:
        raise CannotDecode(f"impossible strides {stride}")
    made = torch.empty_strided(like.shape, stride, dtype=like.dtype)
    if not _is_dense(made):
        raise CannotDecode(f"impossible strides {stride}")
    return made
