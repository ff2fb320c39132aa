"""Synthetic data: shard after shard. The finished shards are the progress, and the database keeps them.

A shard counts when its row exists. One that was made and not recorded is made again, with the same content, for what
it holds depends on the config and its number alone.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from heimdall.engine.control import StopRequests
from heimdall.failpoints import failpoint
from heimdall.files import sync_folder
from heimdall.recipes.base import GenerationRecipe
from heimdall.trainer.protocol import FromTrainer, StagedShard

BLOCK_BYTES = 1 << 20
MOST_WAITING = 8  # shards that were made and are not stored yet


class Generation:
    """The shards of one job, made in order."""

    def __init__(self, recipe: GenerationRecipe, folder: Path, *, finished: Iterable[int]) -> None:
        self.recipe = recipe
        self.folder = folder
        self.finished = set(finished)
        self._waiting: set[str] = set()

    def stored(self, path: str) -> None:
        """A shard's file has been taken over."""
        self._waiting.discard(path)

    def make_missing(self, *, send: Callable[[FromTrainer], None], requests: StopRequests) -> bool:
        """Make the shards that are missing. True when all are there, False when a stop came between two."""
        total = self.recipe.shards
        for shard in range(total):
            if shard in self.finished:
                continue
            # A slow store must not fill the disk; and whoever stops loses little that was made.
            while len(self._waiting) >= MOST_WAITING and not requests.poll():
                requests.wait_for_change(0.2)
            if requests.poll():
                return False
            path, summary = self.recipe.generate(shard, self.folder)
            failpoint("shard_made")
            entry = _finished(shard, path, summary)
            self.finished.add(shard)
            self._waiting.add(str(path))
            send(StagedShard(path=str(path), entry=entry, done=len(self.finished), total=total))
            failpoint("shard_finished")
        return True


def _finished(shard: int, path: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Make the file durable and say what it is."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        while block := file.read(BLOCK_BYTES):
            sha256.update(block)
        size = os.fstat(file.fileno()).st_size
    sync_folder(path.parent)
    return {"shard": shard, "path": path.name, "size": size, "sha256": sha256.hexdigest(), **summary}
