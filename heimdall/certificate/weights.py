"""Whether a file on this machine is one that a certificate speaks of: a whole checkpoint, or its weights alone."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from heimdall import codec
from heimdall.certificate.chain import Link
from heimdall.codec.header import CHUNK_BYTES, LENGTH, MAX_HEADER_BYTES

MODEL, AVERAGE = "model/", "ema/"
_OWN = "recipe_"  # begins the names of a recipe's own parts, which a bundle takes along


def weights_of(path: str | os.PathLike[str]) -> dict[str, str]:
    """Of a checkpoint file, what a model is made of: name -> SHA-256."""
    return model_tensors(codec.tensor_hashes(path))


def model_tensors(hashes: Mapping[str, str]) -> dict[str, str]:
    """Weights, their average, and the recipe's own parts; not what only a resume needs."""
    return {name: sha for name, sha in sorted(hashes.items()) if name.startswith((MODEL, AVERAGE, _OWN))}


def named_in(path: Path, chain: list[Link], weights: Mapping[str, str]) -> tuple[bool, str]:
    """Whether the certificate speaks of this file, and what is to be said of it."""
    try:
        info = codec.verify(path)
    except codec.InvalidCheckpoint:
        return _has_weights(path, weights)
    for link in reversed(chain):
        if link.digest == info.digest:
            return (
                True,
                f"{path} is the state at step {link.step}, link {link.number} of the chain, bit for bit.",
            )
    return _has_weights(path, weights)


def _has_weights(path: Path, weights: Mapping[str, str]) -> tuple[bool, str]:
    """Any safetensors file: its tensors are hashed here, and compared by name. Other tools leave out `model/`."""
    try:
        hashes = _hashes(path)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        return False, f"{path} is no safetensors file, or is damaged: {error}"
    if not weights:
        return False, f"{path} is no state of the chain, and the certificate names no weights."
    found = {name if name in weights else MODEL + name: sha for name, sha in hashes.items()}
    if other := sorted(name for name in found if found[name] != weights.get(name)):
        return False, f"{path} holds other weights: {other[0]} differs (and {len(other) - 1} more)."
    models = [{name for name in weights if name.startswith(one)} for one in (MODEL, AVERAGE)]
    if not any(names and names <= found.keys() for names in models):
        lacks = sorted(models[0] - found.keys())
        return (
            False,
            f"{path} lacks {len(lacks)} of the {len(models[0])} tensors of the model, such as {lacks[:1]}.",
        )
    return True, f"{path} holds the {len(found)} tensors of the final model, bit for bit."


def _hashes(path: Path) -> dict[str, str]:
    with open(path, "rb") as file:
        (length,) = LENGTH.unpack(file.read(LENGTH.size))
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header would have {length} bytes")
        table: dict[str, Any] = json.loads(file.read(length))
        table.pop("__metadata__", None)
        begin = LENGTH.size + length
        places = sorted((*entry["data_offsets"], name) for name, entry in table.items())
        return {name: _sha256(file, begin + first, last - first) for first, last, name in places}


def _sha256(file: IO[bytes], begin: int, num_bytes: int) -> str:
    file.seek(begin)
    sha = sha256()
    while num_bytes > 0:
        piece = file.read(min(CHUNK_BYTES, num_bytes))
        if not piece:
            raise ValueError("the file ends too early")
        sha.update(piece)
        num_bytes -= len(piece)
    return sha.hexdigest()
