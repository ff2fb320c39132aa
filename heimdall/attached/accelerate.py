"""Loaders that Accelerate has prepared, read from a position on. Checked with Accelerate 1.15.

A prepared loader wraps a base loader and reads a batch ahead of it, to know the epoch's last one. So the base is
exchanged for the keyed one, each of whose batches has generators of its own, and Accelerate goes on placing batches
on the device and telling its optimizers when an epoch ends.
"""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from heimdall.attached.loaders import BatchSource


def is_prepared(loader: Any) -> bool:
    return type(loader).__module__ == "accelerate.data_loader" and isinstance(
        getattr(loader, "base_dataloader", None), DataLoader
    )


class PreparedLoader:
    """A loader from `accelerator.prepare`, with a position."""

    def __init__(self, loader: Any, base: BatchSource) -> None:
        self._loader, self._base = loader, base
        self.why_approximate = base.why_approximate

    def batches(self, epoch: int, call: int, position: int) -> Iterator[Any]:
        base = self._loader.base_dataloader
        self._loader.base_dataloader = _Rest(base, self._base.batches(epoch, call, position))
        try:
            yield from self._loader
        finally:
            self._loader.base_dataloader = base

    def state_dict(self) -> dict[str, Any]:
        return self._base.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._base.load_state_dict(state)


class _Rest:
    """What is left of an epoch, in the place of the base loader; whatever else is asked of it, that one answers."""

    def __init__(self, base: Any, batches: Iterator[Any]) -> None:
        self._base, self._batches = base, batches

    def __iter__(self) -> Iterator[Any]:
        return self._batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)
