"""What `manage.py check --deploy` looks at beside Django's own list."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register

from training.errors import StorageRefused, StorageUnavailable


@register(deploy=True)
def the_store_can_be_used(**_: Any) -> list[CheckMessage]:
    """The bucket is there and its keys fit; a worker that is misconfigured would not start."""
    from training import checkpoints  # not for each command that starts

    try:
        checkpoints.mark()
    except StorageRefused as error:
        return [Error(str(error), id="heimdall.E001")]
    except StorageUnavailable as error:
        return [Error(str(error), hint="Is the store running, and is its address right?", id="heimdall.E002")]
    return []
