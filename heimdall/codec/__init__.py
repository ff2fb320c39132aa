"""One checkpoint is one safetensors file: written, checked and read here. Looking at one needs no torch."""

from heimdall.codec.file import (
    MAX_HEADER_BYTES,
    BadCheckpoint,
    FileInfo,
    Saved,
    extract,
    fsync_folder,
    header_sha256,
    load,
    part_names,
    read_about,
    save,
    verify,
    verify_stream,
)

__all__ = [
    "MAX_HEADER_BYTES",
    "BadCheckpoint",
    "FileInfo",
    "Saved",
    "extract",
    "fsync_folder",
    "header_sha256",
    "load",
    "part_names",
    "read_about",
    "save",
    "verify",
    "verify_stream",
]
