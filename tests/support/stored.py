"""Checkpoints that are in the store and have no row yet, as a supervisor records them; there need be no file."""

from __future__ import annotations

from typing import Any

from heimdall.trainer.protocol import StagedCheckpoint
from training.store.checkpoints import StoredCheckpoint


def stored_checkpoint(
    name: str = "", *, step: int, epoch: int = 0, kinds: tuple[str, ...] = ("periodic",), digest: str = "d" * 64,
    size: int = 5, val_loss: float | None = None, seconds: float = 0.0, **more: Any,
) -> StoredCheckpoint:  # fmt: skip
    facts = {"digest": digest, "size": size, "header_sha256": digest, "val_loss": val_loss} | more
    staged = StagedCheckpoint(path=f"/nowhere/s{step}", step=step, epoch=epoch, kinds=tuple(kinds), **facts)
    return StoredCheckpoint(staged, name or f"jobs/1/a1/s{step}", seconds)
