"""Look at a checkpoint file, check it, load it, or take some of its parts out. Only loading needs torch.

Looking takes no more memory than the header has: the web process does it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from typing import IO, Any

from heimdall.codec.errors import CannotDecode
from heimdall.codec.header import (
    CHUNK_BYTES,
    LENGTH,
    FileInfo,
    InvalidCheckpoint,
    Saved,
    canonical,
    canonical_about,
    check_digest,
    check_tensor,
    hash_of,
    header_text,
    laid_out,
    read_header,
    read_into,
    root_digest,
    sha256_of,
    size_of,
)
from heimdall.codec.writing import write_all
from heimdall.files import NotRegularFile, open_regular, whole_file


def verify(path: str | os.PathLike[str], *, digest: str | None = None) -> FileInfo:
    """Read the whole file and check every bit of it; with `digest`, also that it is this very state."""
    with _opened(path) as file:
        return verify_stream(file, size_of(file), digest=digest)


def verify_stream(file: IO[bytes], size: int, *, digest: str | None = None) -> FileInfo:
    """The same of a file that comes piece by piece from elsewhere, and has so many bytes in all."""
    header = read_header(file, size)
    for entry in header.entries:
        check_tensor(entry, hash_of(file, entry.num_bytes), header)
    if file.read(1):
        raise InvalidCheckpoint(f"the file goes on beyond {size} bytes")
    check_digest(header, digest)
    return header.info()


def header_sha256(path: str | os.PathLike[str]) -> str:
    """What names a whole file. The header is checked, the tensors are not read."""
    with _opened(path) as file:
        return read_header(file, size_of(file)).sha256


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file says of itself. The header is checked, the tensors are not read."""
    with _opened(path) as file:
        return read_header(file, size_of(file)).about


def tensor_hashes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Tensor -> SHA-256 of its bytes, as the header has it. The header is checked, the tensors are not read."""
    with _opened(path) as file:
        return tensor_hashes_in(file, size_of(file))


def tensor_hashes_in(file: IO[bytes], size: int) -> dict[str, str]:
    """Those of an open file, which has so many bytes in all."""
    return dict(read_header(file, size).shas)


def part_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the parts that a file holds."""
    with _opened(path) as file:
        tree = json.loads(read_header(file, size_of(file)).texts["parts"])
    return list(tree) if isinstance(tree, dict) else []


def load(path: str | os.PathLike[str], *, digest: str | None = None) -> tuple[Any, dict[str, Any]]:
    """The parts and `about`, checked in full; every tensor is on the CPU and owns its memory."""
    import torch

    from heimdall.codec import encoding, tensors

    blobs: dict[str, tensors.Blob] = {}
    with _opened(path) as file:
        header = read_header(file, size_of(file))
        for entry in header.entries:
            data = torch.empty(entry.num_bytes, dtype=torch.uint8)
            check_tensor(entry, read_into(file, tensors.bytes_of(data)), header)
            blobs[entry.name] = tensors.Blob(entry.dtype, entry.shape, data)
    check_digest(header, digest)
    try:
        return encoding.decode(header.texts["parts"], blobs), header.about
    except CannotDecode as error:
        raise InvalidCheckpoint(f"its parts cannot be decoded: {error}") from error


def extract(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    parts: dict[str, tuple[str, ...]],
    about: dict[str, Any],
) -> Saved:
    """Write some of a file's parts as a file of its own: their bytes as they are, checked, and without torch.

    parts: name in the new file -> where it stands in the old one. Raises KeyError where there is no such part.
    """
    with _opened(source) as file:
        header = read_header(file, size_of(file))
        data_begins = file.tell()
        tree = json.loads(header.texts["parts"])
        chosen = {name: _inside(tree, path) for name, path in parts.items()}
        wanted = set(_names_in(chosen))
        old = [entry for entry in header.entries if entry.name in wanted]
        entries = laid_out([(entry.name, entry.dtype, entry.shape, entry.num_bytes) for entry in old])
        aliases = json.loads(header.texts["aliases"])
        texts = {
            "parts": json.dumps(chosen, allow_nan=False, separators=(",", ":")),
            "aliases": canonical({alias: name for alias, name in aliases.items() if name in wanted}),
            "about": canonical_about(about),
        }
        shas = {entry.name: header.shas[entry.name] for entry in old}
        digest = root_digest(entries, shas, texts)
        text = header_text(entries, texts, shas, digest)
        head = LENGTH.pack(len(text)) + text
        with whole_file(target) as copy:
            write_all(copy.fileno(), [memoryview(head)])
            for entry in old:
                file.seek(data_begins + entry.begin)
                check_tensor(entry, _copy_bytes(file, copy.fileno(), entry.num_bytes), header)
    size = len(head) + sum(entry.num_bytes for entry in entries)
    return Saved(os.fspath(target), digest, size, sha256_of(head))


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    try:
        return open_regular(path)
    except NotRegularFile as error:
        raise InvalidCheckpoint(str(error)) from error


def _copy_bytes(file: IO[bytes], fd: int, num_bytes: int) -> str:
    """Copy so many bytes on, and give their SHA-256."""
    sha, left = hashlib.sha256(), num_bytes
    while left:
        piece = file.read(min(CHUNK_BYTES, left))
        if not piece:
            raise InvalidCheckpoint("the file ends too early")
        sha.update(piece)
        write_all(fd, [memoryview(piece)])
        left -= len(piece)
    return sha.hexdigest()


def _inside(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _names_in(node: Any) -> Iterator[str]:
    """The tensors that an encoded value refers to."""
    if isinstance(node, dict):
        if node.get("$") in {"tensor", "array"} and isinstance(node.get("v"), str):
            yield node["v"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _names_in(item)
