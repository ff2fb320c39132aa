"""Clients that speak to the API as one of the people."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests.support.tokens import token_of
from training.notifications import addresses
from training.presentation import throttles


@pytest.fixture(autouse=True)
def _fresh_throttles():
    throttles.verbs.forget()
    throttles.logins.forget()
    return


@pytest.fixture
def every_name_is_public(monkeypatch):
    """The names of webhooks' hosts lead to a public address, without a look into the network."""
    monkeypatch.setattr(addresses, "_look_up", lambda host, port: ["93.184.216.34"])


@pytest.fixture
def client_of(db) -> Callable[[User | None], APIClient]:
    def make(user: User | None) -> APIClient:
        client = APIClient()
        if user is not None:
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {token_of(user)}")
        return client

    return make


@pytest.fixture
def api(client_of, alice) -> APIClient:
    """Alice's client."""
    return client_of(alice)
