"""Where the files of checkpoints, datasets and code lie."""

from __future__ import annotations

from django.core.files.storage import Storage, storages


def checkpoint_storage() -> Storage:
    """The `checkpoints` entry of STORAGES. A callable, so that no migration holds a path or a bucket."""
    return storages["checkpoints"]


def dataset_storage() -> Storage:
    """The `datasets` entry of STORAGES."""
    return storages["datasets"]


def code_storage() -> Storage:
    """The `code` entry of STORAGES."""
    return storages["code"]
