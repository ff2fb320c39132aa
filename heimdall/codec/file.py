"""One checkpoint is one safetensors file, and every bit of it is under a check.

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
names the SHA-256 of every tensor: no byte is hashed twice. Looking at a file needs neither torch nor numpy
and no more memory than its header: the web process does it. Reading and writing the parts need torch.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import math
import os
import struct
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from heimdall.failpoints import failpoint

FORMAT = "1"
MAX_HEADER_BYTES = 64 * 2**20
_CHUNK_BYTES = 2 * 2**20
_MOST_BUFFERS = 512  # that one call may write; the system allows 1024
_NICER = 5
_LENGTH = struct.Struct("<Q")
_ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "C64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
}
_TEXTS = ("parts", "aliases", "about")
_NO_HASH = "0" * 64


class BadCheckpoint(ValueError):
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


def verify(path: str | os.PathLike[str], *, digest: str | None = None) -> FileInfo:
    """Read the whole file and check every bit of it; with `digest`, also that it is this very state."""
    with open(path, "rb", buffering=0) as file:
        return verify_stream(file, _size_of(file), digest=digest)


def verify_stream(file: IO[bytes], size: int, *, digest: str | None = None) -> FileInfo:
    """The same of a file that comes piece by piece from elsewhere, and has so many bytes in all."""
    header = _read_header(file, size)
    for entry in header.entries:
        _check_tensor(entry, _hash_of(file, entry.num_bytes), header)
    if file.read(1):
        raise BadCheckpoint(f"the file goes on beyond {size} bytes")
    _check_digest(header, digest)
    return header.info()


def header_sha256(path: str | os.PathLike[str]) -> str:
    """What names a whole file. The header is checked, the tensors are not read."""
    with open(path, "rb", buffering=0) as file:
        return _read_header(file, _size_of(file)).sha256


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file says of itself. The header is checked, the tensors are not read."""
    with open(path, "rb", buffering=0) as file:
        return _read_header(file, _size_of(file)).about


def part_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the parts that a file holds."""
    with open(path, "rb", buffering=0) as file:
        tree = json.loads(_read_header(file, _size_of(file)).texts["parts"])
    return list(tree) if isinstance(tree, dict) else []


def load(path: str | os.PathLike[str], *, digest: str | None = None) -> tuple[Any, dict[str, Any]]:
    """The parts and `about`, checked in full; every tensor is on the CPU and owns its memory."""
    import torch

    from heimdall.codec import encoding

    blobs: dict[str, encoding.Blob] = {}
    with open(path, "rb", buffering=0) as file:
        header = _read_header(file, _size_of(file))
        for entry in header.entries:
            data = torch.empty(entry.num_bytes, dtype=torch.uint8)
            _check_tensor(entry, _read_into(file, encoding.bytes_of(data)), header)
            blobs[entry.name] = encoding.Blob(entry.dtype, entry.shape, data)
    _check_digest(header, digest)
    try:
        return encoding.decode(header.texts["parts"], blobs), header.about
    except encoding.CannotDecode as error:
        raise BadCheckpoint(f"its parts cannot be decoded: {error}") from error


def save(path: str | os.PathLike[str], parts: Any, about: dict[str, Any], *, gently: bool = False) -> Saved:
    """Write the file so that it is there as a whole and durable, or not there at all.

    Tensors should be on the CPU already, and nobody may change them meanwhile. Hashing runs beside the
    writing; both leave the interpreter free for the training. `gently` says that a training goes on
    meanwhile: where cores are short, it comes before the hashing.
    """
    from heimdall.codec import encoding

    encoded = encoding.encode(parts)
    named = sorted(encoded.blobs.items(), key=lambda item: (-_ITEM_BYTES[item[1].dtype], item[0]))
    buffers = {name: memoryview(blob.data) for name, blob in named}  # type: ignore[arg-type]
    entries = _laid_out([(name, blob.dtype, blob.shape, buffers[name].nbytes) for name, blob in named])
    texts = {
        "parts": encoded.text,
        "aliases": _canonical(encoded.aliases),
        "about": _canonical_about(about),
    }
    header_bytes = len(_header_text(entries, texts, {entry.name: _NO_HASH for entry in entries}, _NO_HASH))
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(
            f"the checkpoint's header would have {header_bytes} bytes; {MAX_HEADER_BYTES} is the limit"
        )
    threads = _num_hashing_threads()
    pool = ThreadPoolExecutor(threads, "hash", initializer=_give_way if gently else None)
    with _durable(Path(path)) as fd, pool:
        unhashed = iter(sorted(buffers.items(), key=lambda item: -item[1].nbytes))
        hashing = [pool.submit(_sha256_of_each, unhashed) for _ in range(threads)]
        _write_all(fd, [memoryview(bytes(_LENGTH.size + header_bytes)), *buffers.values()])
        failpoint("checkpoint_half_written")
        shas = {} if gently else _sha256_of_each(unhashed)  # what no thread has begun with
        for each in hashing:
            shas |= each.result()
        digest = _root(entries, shas, texts)
        header = _LENGTH.pack(header_bytes) + _header_text(entries, texts, shas, digest)
        os.lseek(fd, 0, os.SEEK_SET)
        _write_all(fd, [memoryview(header)])
        _fsync(fd)
    size = len(header) + sum(entry.num_bytes for entry in entries)
    return Saved(os.fspath(path), digest, size, _sha256(header))


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
    with open(source, "rb", buffering=0) as file:
        header = _read_header(file, _size_of(file))
        data_begins = file.tell()
        tree = json.loads(header.texts["parts"])
        chosen = {name: _inside(tree, path) for name, path in parts.items()}
        wanted = set(_names_in(chosen))
        old = [entry for entry in header.entries if entry.name in wanted]
        entries = _laid_out([(entry.name, entry.dtype, entry.shape, entry.num_bytes) for entry in old])
        aliases = json.loads(header.texts["aliases"])
        texts = {
            "parts": json.dumps(chosen, allow_nan=False, separators=(",", ":")),
            "aliases": _canonical({alias: name for alias, name in aliases.items() if name in wanted}),
            "about": _canonical_about(about),
        }
        shas = {entry.name: header.shas[entry.name] for entry in old}
        digest = _root(entries, shas, texts)
        text = _header_text(entries, texts, shas, digest)
        head = _LENGTH.pack(len(text)) + text
        with _durable(Path(target)) as fd:
            _write_all(fd, [memoryview(head)])
            for entry in old:
                file.seek(data_begins + entry.begin)
                _check_tensor(entry, _copy_bytes(file, fd, entry.num_bytes), header)
            _fsync(fd)
    size = len(head) + sum(entry.num_bytes for entry in entries)
    return Saved(os.fspath(target), digest, size, _sha256(head))


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def num_bytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class _Header:
    entries: list[_Entry]
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
            _sha256(self.texts["parts"].encode()),
            self.size,
            names,
        )


def _laid_out(tensors: list[tuple[str, str, tuple[int, ...], int]]) -> list[_Entry]:
    entries, begin = [], 0
    for name, dtype, shape, num_bytes in tensors:
        entries.append(_Entry(name, dtype, tuple(shape), begin, begin + num_bytes))
        begin += num_bytes
    return entries


def _header_text(entries: list[_Entry], texts: dict[str, str], shas: dict[str, str], digest: str) -> bytes:
    """The one form that a header with this content has; spaces fill it up to a multiple of 8."""
    metadata = {"format": "pt", "heimdall": FORMAT, **{name: texts[name] for name in _TEXTS}}
    metadata["sha256"] = _canonical(shas)
    metadata |= {f"{name}_sha256": _sha256(texts[name].encode()) for name in _TEXTS}
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


def _size_of(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _read_header(file: IO[bytes], size: int) -> _Header:
    length_bytes = _read(file, _LENGTH.size)
    (length,) = _LENGTH.unpack(length_bytes)
    if not 2 <= length <= MAX_HEADER_BYTES or _LENGTH.size + length > size:
        raise BadCheckpoint(f"the header's length of {length} bytes does not fit a file of {size}")
    raw = _read(file, length)
    try:
        return _parsed(raw, size)
    except BadCheckpoint:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadCheckpoint(f"the header is damaged ({type(error).__name__})") from error


def _parsed(raw: bytes, size: int) -> _Header:
    table = json.loads(raw.decode("ascii"))
    metadata = table.pop("__metadata__")
    texts = {name: metadata[name] for name in _TEXTS}
    shas, digest = json.loads(metadata["sha256"]), metadata["digest"]
    entries = [
        _Entry(name, fields["dtype"], tuple(fields["shape"]), *fields["data_offsets"])
        for name, fields in table.items()
    ]
    if _header_text(entries, texts, shas, digest) != raw:
        raise BadCheckpoint("the header is damaged")
    begin = 0
    for entry in entries:
        if entry.begin != begin or entry.num_bytes != _num_bytes(entry):
            raise BadCheckpoint(f"the place of {entry.name} is wrong")
        begin = entry.end
    if size != _LENGTH.size + len(raw) + begin:
        raise BadCheckpoint(f"the file has {size} bytes instead of {_LENGTH.size + len(raw) + begin}")
    if set(shas) != set(table):
        raise BadCheckpoint("the table of digests does not fit the tensors")
    about = json.loads(texts["about"])
    if not isinstance(about, dict):
        raise BadCheckpoint("the header is damaged")
    sha256 = _sha256(_LENGTH.pack(len(raw)), raw)
    return _Header(entries, texts, shas, digest, about, size, sha256)


def _num_bytes(entry: _Entry) -> int:
    count = _ITEM_BYTES[entry.dtype]
    for dimension in entry.shape:
        if type(dimension) is not int or dimension < 0 or count > 2**63:
            raise BadCheckpoint(f"the shape of {entry.name} is wrong")
        count *= dimension
    return count


def _check_tensor(entry: _Entry, sha: str, header: _Header) -> None:
    if header.shas[entry.name] != sha:
        raise BadCheckpoint(f"the bytes of {entry.name} have changed")


def _check_digest(header: _Header, wanted: str | None) -> None:
    found = _root(header.entries, header.shas, header.texts)
    if found != header.digest:
        raise BadCheckpoint("the digest does not fit the content")
    if wanted is not None and found != wanted:
        raise BadCheckpoint(f"this is the state {found[:16]}, not {wanted[:16]}")


def _root(entries: list[_Entry], shas: dict[str, str], texts: dict[str, str]) -> str:
    lines = [
        f"{json.dumps(entry.name)} {entry.dtype} {_canonical(list(entry.shape))} {shas[entry.name]}\n"
        for entry in sorted(entries, key=lambda entry: entry.name)
    ]
    lines += [f"{name} {_sha256(texts[name].encode())}\n" for name in ("parts", "aliases")]
    return _sha256("".join(lines).encode("ascii"))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _canonical_about(about: dict[str, Any]) -> str:
    return _canonical(_without_odd_floats(about))


def _without_odd_floats(value: Any) -> Any:
    """`about` is plain JSON for any reader: NaN and the infinities become their names."""
    if isinstance(value, dict):
        return {key: _without_odd_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_odd_floats(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _sha256(*buffers: bytes | memoryview) -> str:
    # One call for a buffer: the interpreter is free for all of its time.
    sha = hashlib.sha256()
    for buffer in buffers:
        sha.update(buffer)
    return sha.hexdigest()


def _sha256_of_each(buffers: Iterator[tuple[str, memoryview]]) -> dict[str, str]:
    """Threads may share the iterator: each takes the next one."""
    return {name: _sha256(buffer) for name, buffer in buffers}


def _num_hashing_threads() -> int:
    """One keeps up with most disks, where the processor has instructions for SHA. Most cores are the training's."""
    return min(4, max(1, (os.cpu_count() or 1) // 4))


def _give_way() -> None:
    """Let others go first on the cores. Not by much: this thread takes the interpreter's lock between two tensors,
    and must not be left aside with it for long.
    """
    if sys.platform == "linux":  # elsewhere this would mean the whole process
        thread = threading.get_native_id()
        nicer = min(19, os.getpriority(os.PRIO_PROCESS, thread) + _NICER)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, nicer)


def _read(file: IO[bytes], num_bytes: int) -> bytes:
    found = bytearray(num_bytes)
    _read_into(file, memoryview(found))
    return bytes(found)


def _read_into(file: IO[bytes], target: memoryview) -> str:
    """Fill the target from the file and give the SHA-256 of what was read."""
    sha, done = hashlib.sha256(), 0
    while done < target.nbytes:
        count = file.readinto(target[done : done + _CHUNK_BYTES])  # type: ignore[attr-defined]
        if not count:
            raise BadCheckpoint("the file ends too early")
        sha.update(target[done : done + count])
        done += count
    return sha.hexdigest()


def _hash_of(file: IO[bytes], num_bytes: int) -> str:
    sha, left = hashlib.sha256(), num_bytes
    chunk = memoryview(bytearray(min(_CHUNK_BYTES, num_bytes)))
    while left:
        count = file.readinto(chunk[: min(left, len(chunk))])  # type: ignore[attr-defined]
        if not count:
            raise BadCheckpoint("the file ends too early")
        sha.update(chunk[:count])
        left -= count
    return sha.hexdigest()


def _copy_bytes(file: IO[bytes], fd: int, num_bytes: int) -> str:
    """Copy so many bytes on, and give their SHA-256."""
    sha, left = hashlib.sha256(), num_bytes
    while left:
        piece = file.read(min(_CHUNK_BYTES, left))
        if not piece:
            raise BadCheckpoint("the file ends too early")
        sha.update(piece)
        _write_all(fd, [memoryview(piece)])
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


def _write_all(fd: int, buffers: list[memoryview]) -> None:
    """The disk begins with each piece while the next one is copied: little is left for fsync."""
    for piece in _pieces(buffers):
        _write_piece(fd, piece)
        _begin_writeback(fd)


def _pieces(buffers: list[memoryview]) -> Iterator[list[memoryview]]:
    piece: list[memoryview] = []
    num_bytes = 0
    for buffer in buffers:
        for begin in range(0, buffer.nbytes, _CHUNK_BYTES):
            piece.append(buffer[begin : begin + _CHUNK_BYTES])
            num_bytes += piece[-1].nbytes
            if num_bytes >= _CHUNK_BYTES or len(piece) == _MOST_BUFFERS:
                yield piece
                piece, num_bytes = [], 0
    if piece:
        yield piece


def _write_piece(fd: int, piece: list[memoryview]) -> None:
    while piece:
        written = os.writev(fd, piece)
        while piece and written >= piece[0].nbytes:
            written -= piece.pop(0).nbytes
        if piece:
            piece[0] = piece[0][written:]


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[int]:
    """A file that takes the path's name when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            yield fd
        finally:
            os.close(fd)
        failpoint("checkpoint_before_rename")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(path: str | os.PathLike[str]) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        _fsync(fd)
    finally:
        os.close(fd)


def _find_sync_file_range() -> Any:
    """Linux's own call, which `os` lacks; None elsewhere."""
    try:
        found = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return None
    found.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return found


_sync_file_range = _find_sync_file_range()


def _begin_writeback(fd: int) -> None:
    """Ask for what was written so far to go to the disk, and wait for nothing. A hint: what counts is fsync."""
    if _sync_file_range is not None:
        _sync_file_range(fd, 0, 0, 2)  # SYNC_FILE_RANGE_WRITE, of the whole file


def _fsync(fd: int) -> None:
    # On macOS fsync() leaves the data in the drive's cache.
    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)
