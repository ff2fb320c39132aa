"""Synthetic data: shard after shard. The manifest of finished shards is the progress."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.engine.codec import fsync_folder
from training.engine.control import Wishes
from training.engine.failpoints import failpoint
from training.engine.spec import GenerationRecipe

MANIFEST = "manifest.jsonl"


def generate(
    recipe: GenerationRecipe, folder: Path, *, send: Callable[[dict[str, Any]], None], wishes: Wishes
) -> bool:
    """Make the shards that are missing. True when all are there, False when a stop came between two."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(folder)
    total = recipe.shards
    for shard in range(total):
        if shard in manifest:
            continue
        if wishes.poll():
            return False
        path, summary = recipe.generate(shard, folder)
        failpoint("shard_made")
        entry = _finished(shard, path, summary, folder)
        manifest[shard] = entry
        send({"kind": "progress", "done": len(manifest), "total": total, "values": summary, "shard": entry})
        failpoint("shard_finished")
    return True


def read_manifest(folder: Path) -> dict[int, dict[str, Any]]:
    """The finished shards whose files are there in full length. A torn last line counts for nothing."""
    found = {}
    path = folder / MANIFEST
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
            if (folder / entry["path"]).stat().st_size == entry["size"]:
                found[int(entry["shard"])] = entry
        except (ValueError, KeyError, TypeError, OSError):
            continue
    return found


def _finished(shard: int, path: Path, summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the file durable, then its line in the manifest."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
    fsync_folder(path.parent)
    entry = {
        "shard": shard,
        "path": path.relative_to(folder).as_posix(),
        "size": size,
        "sha256": sha256,
        **summary,
    }
    with open(folder / MANIFEST, "a") as manifest:
        # A line that was torn by a crash ends here.
        manifest.write("\n" + json.dumps(entry) + "\n")
        manifest.flush()
        os.fsync(manifest.fileno())
    fsync_folder(folder)
    return entry
