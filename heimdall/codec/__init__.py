"""One checkpoint is one safetensors file: written, checked and read here. Looking at one needs no torch."""

from heimdall.codec.file import (
    extract,
    header_sha256,
    load,
    part_names,
    read_about,
    tensor_hashes,
    tensor_hashes_in,
    verify,
    verify_stream,
)
from heimdall.codec.header import MAX_HEADER_BYTES, FileInfo, InvalidCheckpoint, Saved
from heimdall.codec.writing import digest_of, save

__all__ = [
    "MAX_HEADER_BYTES",
    "FileInfo",
    "InvalidCheckpoint",
    "Saved",
    "digest_of",
    "extract",
    "header_sha256",
    "load",
    "part_names",
    "read_about",
    "save",
    "tensor_hashes",
    "tensor_hashes_in",
    "verify",
    "verify_stream",
]
