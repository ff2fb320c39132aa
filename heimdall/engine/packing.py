"""States as bytes, for the way from one rank to another: the encoding of a checkpoint, without its file."""

import json
from typing import Any

import torch

from heimdall.codec import encoding
from heimdall.codec.tensors import Blob, bytes_of

_LENGTH_BYTES = 8


def packed(value: Any) -> bytes:
    encoded = encoding.encode(value)
    blobs = {name: (blob, memoryview(blob.data)) for name, blob in encoded.blobs.items()}  # type: ignore[arg-type]
    places = [[name, blob.dtype, list(blob.shape), data.nbytes] for name, (blob, data) in blobs.items()]
    header = json.dumps([encoded.text, places]).encode()
    return b"".join(
        [len(header).to_bytes(_LENGTH_BYTES, "little"), header, *(data for _, data in blobs.values())]
    )


def unpacked(data: bytes) -> Any:
    begin = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    text, places = json.loads(data[_LENGTH_BYTES:begin])
    blobs = {}
    for name, dtype, shape, num_bytes in places:
        target = torch.empty(num_bytes, dtype=torch.uint8)
        bytes_of(target)[:] = data[begin : begin + num_bytes]
        blobs[name] = Blob(dtype, tuple(shape), target)
        begin += num_bytes
    return encoding.decode(text, blobs)
