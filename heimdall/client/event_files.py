"""TensorBoard's event files, read without TensorBoard: scalars alone, within bounds, and nothing that could run.

A file is a row of records (TFRecord): its length as 8 bytes, a checksum of that, the record, a checksum of it. A
record is an Event of protocol buffers, of which this reads `wall_time`, `step` and the scalars of `summary`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from heimdall.errors import InvalidInput

PATTERN = "*tfevents*"
MOST_RECORD_BYTES = 64 * 1024 * 1024
MOST_CHECKED_BYTES = 4_096  # the checksum of what is larger (pictures, histograms) is not looked at
LONGEST_TAG = 100
_FLOAT, _DOUBLE = 1, 2  # of TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class ScalarEvent:
    """The scalars that were written at one moment of one step."""

    step: int
    at: float
    values: dict[str, float]


def files_of(folder: Path) -> list[Path]:
    """The event files right in this folder, in the order in which they were begun: their names begin with a time."""
    found = (path for path in folder.glob(PATTERN) if path.is_file() and not path.is_symlink())
    return sorted(found, key=lambda path: path.name)


def scalars(path: Path) -> Iterator[ScalarEvent]:
    """The file's events that have scalars. A last record that is not whole yet is left out."""
    with path.open("rb") as source:
        for record in _records(source, path):
            try:
                event = _event(record)
            except (IndexError, struct.error, UnicodeDecodeError) as error:
                raise _damaged(path, "a record is no event") from error
            if event.values:
                yield event


def _records(source: BinaryIO, path: Path) -> Iterator[bytes]:
    while len(head := source.read(12)) == 12:
        length, checksum = struct.unpack("<QI", head)
        if checksum != _masked(head[:8]):
            raise _damaged(path, "a record's length does not fit its checksum")
        if length > MOST_RECORD_BYTES:
            raise _damaged(path, f"a record of {length} bytes; {MOST_RECORD_BYTES} are read")
        record, rest = source.read(length), source.read(4)
        if len(record) < length or len(rest) < 4:
            return
        if length <= MOST_CHECKED_BYTES and struct.unpack("<I", rest)[0] != _masked(record):
            raise _damaged(path, "a record does not fit its checksum")
        yield record


def _event(record: bytes) -> ScalarEvent:
    at, step, values = 0.0, 0, {}
    for number, kind, value in _fields(record):
        if number == 1 and kind == _FIXED64:
            (at,) = struct.unpack("<d", value)
        elif number == 2 and kind == _VARINT:
            step = _signed(value)
        elif number == 5 and kind == _BYTES:
            values |= dict(_summary(value))
    return ScalarEvent(step, at, values)


def _summary(raw: bytes) -> Iterator[tuple[str, float]]:
    for number, kind, value in _fields(raw):
        if number == 1 and kind == _BYTES:
            tag, scalar = _tagged(value)
            if tag and scalar is not None and len(tag) <= LONGEST_TAG:
                yield tag, scalar


def _tagged(raw: bytes) -> tuple[str, float | None]:
    tag, scalar = "", None
    for number, kind, value in _fields(raw):
        if number == 1 and kind == _BYTES:
            tag = value.decode()
        elif number == 2 and kind == _FIXED32:
            (scalar,) = struct.unpack("<f", value)
        elif number == 8 and kind == _BYTES:
            scalar = _of_tensor(value)
    return tag, scalar


def _of_tensor(raw: bytes) -> float | None:
    """The one number of a tensor; None where it has another type or more of them."""
    dtype, found = 0, b""
    for number, kind, value in _fields(raw):
        if number == 1 and kind == _VARINT:
            dtype = _signed(value)
        elif number in (4, 5, 6) and kind in (_BYTES, _FIXED32, _FIXED64):
            found = value
    layout = {(_FLOAT, 4): "<f", (_DOUBLE, 8): "<d"}.get((dtype, len(found)))
    return float(struct.unpack(layout, found)[0]) if layout else None


def _fields(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, kind and bytes of each field of a message."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        kind = key & 7
        if kind == _VARINT:
            begin = place
            _, place = _varint(raw, place)
        elif kind in (_FIXED64, _FIXED32):
            begin, place = place, place + (8 if kind == _FIXED64 else 4)
        elif kind == _BYTES:
            length, begin = _varint(raw, place)
            place = begin + length
        else:
            raise IndexError("a field of an unknown kind")
        if place > len(raw):
            raise IndexError("a field that is longer than its message")
        yield key >> 3, kind, raw[begin:place]


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = raw[place]
        number |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return number, place
    raise IndexError("a number that does not end")


def _signed(raw: bytes) -> int:
    number = _varint(raw, 0)[0]
    return number - (1 << 64) if number >= 1 << 63 else number


def _damaged(path: Path, why: str) -> InvalidInput:
    return InvalidInput({"folder": [f"{path.name} is no whole event file of TensorBoard: {why}."]})


def _table() -> list[int]:
    """CRC-32C, which TFRecords use, by bytes."""
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        found.append(byte)
    return found


_TABLE = _table()


def _masked(raw: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in raw:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
