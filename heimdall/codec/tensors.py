"""Tensors and arrays: how each becomes a blob and the tag that refers to it, and how it is made of them again."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from heimdall.codec.dtypes import NUMPY_NAMES, TYPES
from heimdall.codec.errors import CannotDecode, CannotEncode, where
from heimdall.codec.tags import Node, Path, TaggedType

_TORCH_NAMES = {getattr(torch, one.torch): one.name for one in TYPES}
_NAMES_TORCH = {name: dtype for dtype, name in _TORCH_NAMES.items()}
# The file format has no name for these; they are stored as pairs of real numbers.
_AS_REAL = {torch.complex128: torch.float64, torch.complex32: torch.float16}
_AS_COMPLEX = {str(dtype).removeprefix("torch."): dtype for dtype in _AS_REAL}
_NUMPY_DTYPE = re.compile(r"[<>|=](?:f[248]|[iu][1248]|b1|c8|c16|[mM]8(?:\[[0-9]*[A-Za-z]+\])?)")


@dataclass
class Blob:
    """The raw bytes of one tensor, in C order, with the name of its type as the file format has it."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview | torch.Tensor  # when read back: a flat tensor of bytes that owns its memory


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, not a copy."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


# Tensors


def check_tensor_is_kept(tensor: torch.Tensor, path: Path) -> None:
    if tensor.layout is not torch.strided:
        raise CannotEncode(
            f"{where(path)} is a sparse tensor, and a checkpoint keeps dense ones: for sparse gradients take an "
            "optimizer without momentum, or torch.optim.SparseAdam; in a part of your own, give to_dense()"
        )
    if tensor.is_quantized or tensor.device.type == "meta":
        kind = "quantized" if tensor.is_quantized else "meta"
        raise CannotEncode(f"{where(path)} is a {kind} tensor, and a checkpoint keeps none of these")
    if tensor.dtype not in _AS_REAL and tensor.dtype not in _TORCH_NAMES:
        raise CannotEncode(f"{where(path)}: a checkpoint does not keep tensors of {tensor.dtype}")


def identity_of(tensor: torch.Tensor) -> tuple[Any, ...] | None:
    """What is equal for two tensors that share their numbers; None for an empty one."""
    if not tensor.numel():
        return None
    return (
        tensor.data_ptr(),
        tensor.device,
        tensor.dtype,
        tensor.shape,
        tensor.stride(),
        tensor.is_conj(),
    )


def blob_of_tensor(plain: torch.Tensor) -> Blob:
    flat = plain.resolve_conj().resolve_neg().contiguous().cpu()
    if plain.dtype in _AS_REAL:
        flat = torch.view_as_real(flat)
    return Blob(_TORCH_NAMES[flat.dtype], tuple(flat.shape), bytes_of(flat))


def facts_of_tensor(value: torch.Tensor) -> Node:
    """What its blob does not say."""
    facts: Node = {}
    if value.dtype in _AS_REAL:
        facts["dtype"] = str(value.dtype).removeprefix("torch.")
    if not value.is_contiguous() and _is_dense(value):
        facts["stride"] = list(value.stride())
    if type(value) is torch.nn.Parameter:
        facts["parameter"] = value.requires_grad
    return facts


def tensor_of(blob: Blob, node: Node) -> torch.Tensor:
    assert isinstance(blob.data, torch.Tensor)
    tensor = blob.data.view(_NAMES_TORCH[blob.dtype]).reshape(blob.shape)
    if "dtype" in node:
        tensor = torch.view_as_complex(tensor)
        if tensor.dtype is not _AS_COMPLEX[node["dtype"]]:
            raise CannotDecode(f"{node['v']} is not {node['dtype']}")
    if "stride" in node:
        laid_out = _empty_dense(tensor, node["stride"])
        tensor = laid_out.copy_(tensor)
    return tensor


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


# Arrays of numpy


def blob_of_array(value: "np.ndarray[Any, Any]") -> Blob:
    flat = np.ascontiguousarray(value).reshape(value.shape)
    stored = NUMPY_NAMES.get(value.dtype.str[1:]) if value.dtype.isnative else None
    data = memoryview(flat.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    return Blob(stored or "U8", value.shape if stored else (data.nbytes,), data)


def facts_of_array(value: "np.ndarray[Any, Any]", path: Path) -> Node:
    facts: Node = {"dtype": _numpy_dtype(value.dtype, path), "shape": list(value.shape)}
    if value.flags.f_contiguous and not value.flags.c_contiguous:
        facts["order"] = "F"
    return facts


def array_of(blob: Blob, node: Node) -> "np.ndarray[Any, Any]":
    dtype = _checked_numpy_dtype(node["dtype"])
    assert isinstance(blob.data, torch.Tensor)
    array: np.ndarray[Any, Any] = blob.data.reshape(-1).numpy().view(dtype).reshape(node["shape"])
    return array.copy(order="F" if node.get("order") == "F" else "C")


def _numpy_dtype(dtype: Any, path: tuple[Any, ...]) -> str:
    text = str(dtype.str)
    if dtype.hasobject or not _NUMPY_DTYPE.fullmatch(text):
        raise CannotEncode(f"{where(path)}: a checkpoint does not keep numpy values of {dtype}")
    return text


def _checked_numpy_dtype(text: str) -> Any:
    if not _NUMPY_DTYPE.fullmatch(text):
        raise CannotDecode(f"unknown numpy type {text!r}")
    return np.dtype(text)


NUMPY_TAGS = (
    TaggedType(
        "np",
        None,
        lambda w, x, p: {"dtype": _numpy_dtype(x.dtype, p), "v": x.tobytes().hex()},
        lambda r, n: np.frombuffer(bytes.fromhex(n["v"]), _checked_numpy_dtype(n["dtype"]))[0],
    ),
    TaggedType(
        "np.dtype",
        None,
        lambda w, x, p: {"v": _numpy_dtype(x, p)},
        lambda r, n: _checked_numpy_dtype(n["v"]),
    ),
    TaggedType(
        "np.type",
        None,
        lambda w, x, p: {"v": _numpy_dtype(np.dtype(x), p)},
        lambda r, n: _checked_numpy_dtype(n["v"]).type,
    ),
)
