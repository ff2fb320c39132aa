"""What a pooler of transactions takes away is said, with its remedy, by the check of a deployment and by workers."""

from __future__ import annotations

import pytest
from django.core import checks
from django.db import connection, connections

from heimdall.site.postgresql.base import BoundedConnection
from tests.support import postgres
from training.checks import shortcomings
from training.queue import commits


@pytest.fixture(scope="module", autouse=True)
def url(postgresql, django_db_blocker):
    """Of a database without tables: none is looked into."""
    url = postgresql.empty()
    with django_db_blocker.unblock(), postgres.instead(url):
        yield url


@pytest.fixture
def nothing_is_heard(settings, postgresql, monkeypatch):
    """As behind a pooler of transactions: what is said goes elsewhere, here to another database."""
    monkeypatch.setattr(commits, "ARRIVE_SECONDS", 0.2)
    settings.LISTEN_URL = postgresql.url("postgres")


@pytest.fixture
def options_are_left_out(monkeypatch):
    """As by pgbouncer's ignore_startup_parameters."""

    def connect(*, options: str = "", **params):
        return BoundedConnection.connect(**params)

    monkeypatch.setattr(connections["default"].Database, "connect", connect)


def told() -> list[str]:
    return [found.id for found in shortcomings()]


def test_nothing_is_said_of_postgresql_itself(settings, url):
    assert told() == []
    settings.LISTEN_URL = url
    assert told() == []


def test_it_is_said_that_nothing_is_heard(nothing_is_heard):
    assert told() == ["heimdall.W001"]


def test_it_is_said_that_limits_are_left_out(options_are_left_out):
    (found,) = shortcomings()
    assert found.id == "heimdall.W002"
    assert "statement_timeout, lock_timeout, idle_in_transaction_session_timeout" in found.msg
    with connection.cursor() as cursor:  # the remedy
        for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            cursor.execute(f"ALTER ROLE heimdall SET {limit} = '30s'")
    try:
        assert told() == []
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER ROLE heimdall RESET ALL")


def test_the_check_of_a_deployment_says_it(nothing_is_heard):
    found = checks.run_checks(include_deployment_checks=True)
    assert "heimdall.W001" in [one.id for one in found]
