"""Webhooks that go to a receiver on this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.notifications.receiver import Receiver, receiving
from training import services

HERE = (frozenset(), (ipaddress.ip_network("127.0.0.0/8"),))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as told:
        yield told


@pytest.fixture
def at_home(settings) -> None:
    """The administrator allows webhooks to this machine."""
    settings.WEBHOOK_ALLOW = HERE


@pytest.fixture
def subscribed(at_home, receiver, alice) -> Callable[..., Any]:
    """subscribed(by=bob, of_team=True, ...): a webhook to the receiver; Alice's, of her own jobs, if not said."""

    def make(**wanted: Any) -> Any:
        return services.subscribe(**({"by": alice, "via": "webhook", "target": receiver.url} | wanted))

    return make
