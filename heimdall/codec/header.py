"""The header of a checkpoint: what it holds, the one form that it has, and the digest. No torch, no numpy.

One checkpoint is one safetensors file, and every bit of it is under a check.

The header's metadata holds, beside the tensors' names, types and shapes:

    parts          everything that must survive and is no tensor, in the tagged encoding (encoding.py)
    aliases        names of shared tensors -> the name under which each is stored once
    about          what a reader wants to know of the checkpoint; not part of the digest
    sha256         tensor -> SHA-256 of its bytes
    parts_sha256, aliases_sha256, about_sha256
    digest         SHA-256 over one line for each tensor, sorted by name, and two more, all ended by a newline
                       <name as JSON> <dtype> <shape as JSON> <SHA-256>
                       parts <SHA-256>
                       aliases <SHA-256>

The header has one possible form for its content, and leaves no hole in the file: a changed bit anywhere is
noticed. `header_sha256`, over the header's length and the header, names the whole file, because the header
names the SHA-256 of every tensor: no byte is hashed twice.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from typing import IO, Any

from heimdall.codec.dtypes import NUM_BYTES
from heimdall.plain_json import with_named_floats

FORMAT = "1"
MAX_HEADER_BYTES = 64 * 2**20
CHUNK_BYTES = 2 * 2**20
LENGTH = struct.Struct("<Q")
NO_HASH = "0" * 64
_TEXTS = ("parts", "aliases", "about")


class InvalidCheckpoint(ValueError):
    """The file was read and is not what was once written. (A file that cannot be read raises OSError.)"""


@dataclass(frozen=True)
class FileInfo:
    digest: str
    header_sha256: str
    about: dict[str, Any]
    parts_sha: str
    size: int
    names: list[str]


@dataclass(frozen=True)
class Saved:
    path: str
    digest: str
    size: int
    header_sha256: str


@dataclass(frozen=True)
class TensorPlace:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def num_bytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    entries: list[TensorPlace]
    texts: dict[str, str]
    shas: dict[str, str]
    digest: str
    about: dict[str, Any]
    size: int
    sha256: str

    def info(self) -> FileInfo:
        names = [entry.name for entry in self.entries]
        return FileInfo(
            self.digest,
            self.sha256,
            self.about,
            sha256_of(self.texts["parts"].encode()),
            self.size,
            names,
        )


def laid_out(tensors: list[tuple[str, str, tuple[int, ...], int]]) -> list[TensorPlace]:
    entries, begin = [], 0
    for name, dtype, shape, num_bytes in tensors:
        entries.append(TensorPlace(name, dtype, tuple(shape), begin, begin + num_bytes))
        begin += num_bytes
    return entries


def header_text(
    entries: list[TensorPlace], texts: dict[str, str], shas: dict[str, str], digest: str
) -> bytes:
    """The one form that a header with this content has; spaces fill it up to a multiple of 8."""
    metadata = {"format": "pt", "heimdall": FORMAT, **{name: texts[name] for name in _TEXTS}}
    metadata["sha256"] = canonical(shas)
    metadata |= {f"{name}_sha256": sha256_of(texts[name].encode()) for name in _TEXTS}
    metadata["digest"] = digest
    table: dict[str, Any] = {"__metadata__": metadata}
    for entry in entries:
        table[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.end],
        }
    text = json.dumps(table, separators=(",", ":")).encode("ascii")
    return text + b" " * (-len(text) % 8)


def size_of(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def read_header(file: IO[bytes], size: int) -> Header:
    length_bytes = _read(file, LENGTH.size)
    (length,) = LENGTH.unpack(length_bytes)
    if not 2 <= length <= MAX_HEADER_BYTES or LENGTH.size + length > size:
        raise InvalidCheckpoint(f"the header's length of {length} bytes does not fit a file of {size}")
    raw = _read(file, length)
    try:
        return _parsed(raw, size)
    except InvalidCheckpoint:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidCheckpoint(f"the header is damaged ({type(error).__name__})") from error


def _parsed(raw: bytes, size: int) -> Header:
    table = json.loads(raw.decode("ascii"))
    metadata = table.pop("__metadata__")
    texts = {name: metadata[name] for name in _TEXTS}
    shas, digest = json.loads(metadata["sha256"]), metadata["digest"]
    entries = [
        TensorPlace(name, fields["dtype"], tuple(fields["shape"]), *fields["data_offsets"])
        for name, fields in table.items()
    ]
    if header_text(entries, texts, shas, digest) != raw:
        raise InvalidCheckpoint("the header is damaged")
    begin = 0
    for entry in entries:
        if entry.begin != begin or entry.num_bytes != _num_bytes(entry):
            raise InvalidCheckpoint(f"the place of {entry.name} is wrong")
        begin = entry.end
    if size != LENGTH.size + len(raw) + begin:
        raise InvalidCheckpoint(f"the file has {size} bytes instead of {LENGTH.size + len(raw) + begin}")
    if set(shas) != set(table):
        raise InvalidCheckpoint("the table of digests does not fit the tensors")
    about = json.loads(texts["about"])
    if not isinstance(about, dict):
        raise InvalidCheckpoint("the header is damaged")
    sha256 = sha256_of(LENGTH.pack(len(raw)), raw)
    return Header(entries, texts, shas, digest, about, size, sha256)


def _num_bytes(entry: TensorPlace) -> int:
    count = NUM_BYTES[entry.dtype]
    for dimension in entry.shape:
        if type(dimension) is not int or dimension < 0 or count > 2**63:
            raise InvalidCheckpoint(f"the shape of {entry.name} is wrong")
        count *= dimension
    return count


def check_tensor(entry: TensorPlace, sha: str, header: Header) -> None:
    if header.shas[entry.name] != sha:
        raise InvalidCheckpoint(f"the bytes of {entry.name} have changed")


def check_digest(header: Header, wanted: str | None) -> None:
    found = root_digest(header.entries, header.shas, header.texts)
    if found != header.digest:
        raise InvalidCheckpoint("the digest does not fit the content")
    if wanted is not None and found != wanted:
        raise InvalidCheckpoint(f"this is the state {found[:16]}, not {wanted[:16]}")


def root_digest(entries: list[TensorPlace], shas: dict[str, str], texts: dict[str, str]) -> str:
    lines = [
        f"{json.dumps(entry.name)} {entry.dtype} {canonical(list(entry.shape))} {shas[entry.name]}\n"
        for entry in sorted(entries, key=lambda entry: entry.name)
    ]
    lines += [f"{name} {sha256_of(texts[name].encode())}\n" for name in ("parts", "aliases")]
    return sha256_of("".join(lines).encode("ascii"))


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def canonical_about(about: dict[str, Any]) -> str:
    return canonical(with_named_floats(about))


def sha256_of(*buffers: bytes | memoryview) -> str:
    # One call for a buffer: the interpreter is free for all of its time.
    sha = hashlib.sha256()
    for buffer in buffers:
        sha.update(buffer)
    return sha.hexdigest()


def _read(file: IO[bytes], num_bytes: int) -> bytes:
    found = bytearray(num_bytes)
    read_into(file, memoryview(found))
    return bytes(found)


def read_into(file: IO[bytes], target: memoryview) -> str:
    """Fill the target from the file and give the SHA-256 of what was read."""
    sha, done = hashlib.sha256(), 0
    while done < target.nbytes:
        count = file.readinto(target[done : done + CHUNK_BYTES])  # type: ignore[attr-defined]
        if not count:
            raise InvalidCheckpoint("the file ends too early")
        sha.update(target[done : done + count])
        done += count
    return sha.hexdigest()


def hash_of(file: IO[bytes], num_bytes: int) -> str:
    sha, left = hashlib.sha256(), num_bytes
    chunk = memoryview(bytearray(min(CHUNK_BYTES, num_bytes)))
    while left:
        count = file.readinto(chunk[: min(left, len(chunk))])  # type: ignore[attr-defined]
        if not count:
            raise InvalidCheckpoint("the file ends too early")
        sha.update(chunk[:count])
        left -= count
    return sha.hexdigest()
