"""Files as a trainer stages them, and what it says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from heimdall import codec
from heimdall.trainer.protocol import StagedCheckpoint


def staged(
    folder: Path, *, step: int = 4, epoch: int = 1, kinds: tuple[str, ...] = ("periodic",), value: float = 1.0,
    numbers: int = 3, **about: Any,
) -> StagedCheckpoint:  # fmt: skip
    """A checkpoint whose state is `numbers` times the value."""
    folder.mkdir(exist_ok=True)
    path = folder / f"staged-{step}-{value}.safetensors"
    state = {"model": {"weight": torch.full((numbers,), value)}}
    return staged_as(codec.save(path, state, {"step": step} | about), step=step, epoch=epoch, kinds=kinds)


def staged_as(saved: codec.Saved, **facts: Any) -> StagedCheckpoint:
    """What a trainer says of a file that it saved."""
    return StagedCheckpoint(
        path=str(saved.path), digest=saved.digest, size=saved.size, header_sha256=saved.header_sha256, **facts
    )
