"""Write a checkpoint file: the hashing runs beside the writing, and the disk begins at once."""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from heimdall.codec.dtypes import NUM_BYTES
from heimdall.codec.header import (
    CHUNK_BYTES,
    LENGTH,
    MAX_HEADER_BYTES,
    NO_HASH,
    Saved,
    canonical,
    canonical_about,
    header_text,
    laid_out,
    root_digest,
    sha256_of,
)
from heimdall.failpoints import failpoint
from heimdall.files import whole_file

_MOST_BUFFERS = 512  # that one call may write; the system allows 1024
_NICER = 5


def save(path: str | os.PathLike[str], parts: Any, about: dict[str, Any], *, gently: bool = False) -> Saved:
    """Write the file so that it is there as a whole and durable, or not there at all.

    Tensors should be on the CPU already, and nobody may change them meanwhile. Hashing runs beside the
    writing; both leave the interpreter free for the training. `gently` says that a training goes on
    meanwhile: where cores are short, it comes before the hashing.
    """
    from heimdall.codec import encoding

    encoded = encoding.encode(parts)
    named = sorted(encoded.blobs.items(), key=lambda item: (-NUM_BYTES[item[1].dtype], item[0]))
    buffers = {name: memoryview(blob.data) for name, blob in named}  # type: ignore[arg-type]
    entries = laid_out([(name, blob.dtype, blob.shape, buffers[name].nbytes) for name, blob in named])
    texts = {
        "parts": encoded.text,
        "aliases": canonical(encoded.aliases),
        "about": canonical_about(about),
    }
    header_bytes = len(header_text(entries, texts, {entry.name: NO_HASH for entry in entries}, NO_HASH))
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(
            f"the checkpoint's header would have {header_bytes} bytes; {MAX_HEADER_BYTES} is the limit"
        )
    threads = _num_hashing_threads()
    pool = ThreadPoolExecutor(threads, "hash", initializer=_give_way if gently else None)
    with whole_file(path) as file, pool:
        fd = file.fileno()
        unhashed = iter(sorted(buffers.items(), key=lambda item: -item[1].nbytes))
        hashing = [pool.submit(_sha256_of_each, unhashed) for _ in range(threads)]
        write_all(fd, [memoryview(bytes(LENGTH.size + header_bytes)), *buffers.values()])
        failpoint("checkpoint_half_written")
        shas = {} if gently else _sha256_of_each(unhashed)  # what no thread has begun with
        for each in hashing:
            shas |= each.result()
        digest = root_digest(entries, shas, texts)
        header = LENGTH.pack(header_bytes) + header_text(entries, texts, shas, digest)
        os.lseek(fd, 0, os.SEEK_SET)
        write_all(fd, [memoryview(header)])
        failpoint("checkpoint_before_rename")
    size = len(header) + sum(entry.num_bytes for entry in entries)
    return Saved(os.fspath(path), digest, size, sha256_of(header))


def digest_of(parts: Any, *, gently: bool = False) -> str:
    """The digest that a file with these parts would have, without the file."""
    from heimdall.codec import encoding

    encoded = encoding.encode(parts)
    buffers = {name: memoryview(blob.data) for name, blob in encoded.blobs.items()}  # type: ignore[arg-type]
    entries = laid_out(
        [(name, blob.dtype, blob.shape, buffers[name].nbytes) for name, blob in encoded.blobs.items()]
    )
    texts = {"parts": encoded.text, "aliases": canonical(encoded.aliases)}
    with ThreadPoolExecutor(1, "hash", initializer=_give_way if gently else None) as pool:
        shas = pool.submit(_sha256_of_each, iter(buffers.items())).result()
    return root_digest(entries, shas, texts)


def _sha256_of_each(buffers: Iterator[tuple[str, memoryview]]) -> dict[str, str]:
    """Threads may share the iterator: each takes the next one."""
    return {name: sha256_of(buffer) for name, buffer in buffers}


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


def write_all(fd: int, buffers: list[memoryview]) -> None:
    """The disk begins with each piece while the next one is copied: little is left for fsync."""
    for piece in _pieces(buffers):
        _write_piece(fd, piece)
        _begin_writeback(fd)


def _pieces(buffers: list[memoryview]) -> Iterator[list[memoryview]]:
    piece: list[memoryview] = []
    num_bytes = 0
    for buffer in buffers:
        for begin in range(0, buffer.nbytes, CHUNK_BYTES):
            piece.append(buffer[begin : begin + CHUNK_BYTES])
            num_bytes += piece[-1].nbytes
            if num_bytes >= CHUNK_BYTES or len(piece) == _MOST_BUFFERS:
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
