"""Where the files of checkpoints and datasets lie."""

from __future__ import annotations

from django.core.files.storage import Storage, storages


def checkpoint_storage() -> Storage:
    """The `checkpoints` entry of STORAGES. A callable, so that no migration holds a path or a bucket."""
    return storages["checkpoints"]


def dataset_storage() -> Storage:
    """The `datasets` entry of STORAGES."""
    return storages["datasets"]
