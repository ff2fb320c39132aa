"""Which way of reading fits what a script gives to `job.batches`."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from heimdall.attached.accelerate import PreparedLoader, is_prepared
from heimdall.attached.loaders import BatchSource, KeyedLoader, ReplayedSource, SequenceSource, StatefulSource


def source_of(
    loader: Any,
    *,
    seed: int,
    worker_setup: Callable[[int], None] | None = None,
    is_read_ahead: bool = False,
    rank_of: tuple[int, int] = (0, 1),
) -> BatchSource:
    """The way of reading that fits what the script gave to `job.batches`.

    is_read_ahead: whoever reads asks for the next batch before the body of this one is over.
    rank_of: which of how many processes this is; each batch is cut among them, unless its sampler has done so.
    """
    if is_prepared(loader):
        base = source_of(loader.base_dataloader, seed=seed, worker_setup=worker_setup, is_read_ahead=True)
        return PreparedLoader(loader, base)
    if _is_map_style(loader):
        return KeyedLoader(
            loader, seed=seed, worker_setup=worker_setup, is_read_ahead=is_read_ahead, rank_of=rank_of
        )
    stateful = _with_own_state(loader)
    if stateful is not None:
        return StatefulSource(loader, stateful, seed=seed)
    if isinstance(loader, Sequence | range):
        return SequenceSource(loader)
    return ReplayedSource(loader, seed=seed)


def _is_map_style(loader: Any) -> bool:
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    # A subclass that iterates in its own way is not taken apart, but for torchdata's, whose way is a position too.
    return type(loader).__iter__ is DataLoader.__iter__ or type(loader).__name__ == "StatefulDataLoader"


def _with_own_state(loader: Any) -> Any:
    """What of it tells its position: the loader, or without workers its dataset."""
    if _has_state(loader):
        return loader
    dataset = getattr(loader, "dataset", None)
    return dataset if _has_state(dataset) and not getattr(loader, "num_workers", 0) else None


def _has_state(thing: Any) -> bool:
    return all(callable(getattr(thing, name, None)) for name in ("state_dict", "load_state_dict"))
