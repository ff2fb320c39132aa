"""Text as tokens: which files are read, and how they are kept in the scratch folder. Needs numpy alone."""

import hashlib
import json
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heimdall.files import whole_file
from heimdall.recipes.language_model.config import VOCABULARY

UNKNOWN = 0
CHARACTERS = "\n\t" + "".join(map(chr, range(0x20, 0x7F)))
SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib"}
SMALLEST_PIECE = 65_536

assert len(CHARACTERS) + 1 == VOCABULARY

_TOKENS = np.zeros(0x110000, dtype=np.uint8)
_TOKENS[[ord(character) for character in CHARACTERS]] = np.arange(1, VOCABULARY)


def tokens_of(folder: str, max_chars: int, scratch: Path) -> np.ndarray:
    """The text of a folder as one array of tokens. It is read once and then taken from the scratch folder."""
    files = list(_files(_folder(folder), max_chars))
    kept = scratch / f"tokens-{_name(files, max_chars)}.npy"
    try:
        return np.load(kept, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        tokens = _read(files, max_chars)
    scratch.mkdir(parents=True, exist_ok=True)
    with whole_file(kept, durable=False) as file:
        np.save(file, tokens, allow_pickle=False)
    return tokens


def encode(text: str) -> np.ndarray:
    return _TOKENS[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)]


def _folder(folder: str) -> Path:
    path = Path(folder).resolve() if folder else Path(sysconfig.get_path("stdlib"))
    if not path.is_dir():
        raise ValueError(f"text_folder: there is no folder {path} on this machine")
    return path


def _files(folder: Path, max_chars: int) -> Iterator[tuple[Path, int, int]]:
    """Path, size and time of the files that are wanted at most, in the order of their names."""
    found = 0
    own_library = folder == Path(sysconfig.get_path("stdlib"))
    for path in _walk(folder):
        if own_library and path.suffix != ".py":
            continue
        status = path.stat()
        yield path, status.st_size, status.st_mtime_ns
        # A character has one byte or more; a file that turns out to be no text adds nothing.
        found += status.st_size if _looks_like_text(path) else 0
        if found >= 4 * max_chars + SMALLEST_PIECE:
            return


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith(".")
        )
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _looks_like_text(path: Path) -> bool:
    with open(path, "rb") as file:
        return b"\0" not in file.read(1024)


def _read(files: list[tuple[Path, int, int]], max_chars: int) -> np.ndarray:
    pieces, left = [], max_chars
    for path, _, _ in files:
        if left <= 0:
            break
        piece = _text(path, left)
        if piece:
            pieces.append(encode(piece))
            left -= len(piece)
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.uint8)


def _text(path: Path, most: int) -> str:
    """The beginning of a file; nothing of a file that is no text."""
    with open(path, encoding="utf-8", newline=None) as file:
        try:
            text = file.read(most)
        except UnicodeDecodeError:
            return ""
    return "" if "\0" in text else text


def _name(files: list[tuple[Path, int, int]], max_chars: int) -> str:
    listed = [[str(path), size, time] for path, size, time in files]
    return hashlib.sha256(json.dumps([max_chars, listed]).encode()).hexdigest()[:32]
