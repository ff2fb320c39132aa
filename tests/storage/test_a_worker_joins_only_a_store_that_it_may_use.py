"""A store that refuses stops a worker's start with a sentence; one that is away is waited for."""

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError

from tests.storage.conftest import s3_backend, use_store
from tests.storage.servers import Failing
from training.management.commands import worker
from training.store import s3

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def failing(settings, s3_addresses, monkeypatch):
    monkeypatch.setattr(s3, "TRIES", 1)
    monkeypatch.setattr(worker, "STORE_SECONDS", 0.01)
    server = Failing()
    use_store(settings, s3_backend(server.address, timeout=2))
    yield server
    server.close()


def test_a_key_without_permission_stops_the_start(failing):
    failing.answer = (403, "AccessDenied")
    with pytest.raises(CommandError, match="refuses"):
        worker._join()


def test_a_store_that_is_away_is_waited_for(failing, monkeypatch, settings, s3_addresses, caplog):
    join, tries = worker.services.join_installation, []

    def join_later() -> None:
        tries.append(1)
        if len(tries) == 4:
            use_store(settings, s3_backend(s3_addresses("moto")))
        join()

    monkeypatch.setattr(worker.services, "join_installation", join_later)
    assert worker._join().name == settings.NODE_NAME
    assert len(tries) == 4
    assert "Waiting for the store" in caplog.text


def test_the_check_of_a_deployment_says_what_is_wrong(failing):
    failing.answer = (403, "InvalidAccessKeyId")
    told = [
        found for found in run_checks(include_deployment_checks=True) if found.id.startswith("heimdall.E")
    ]
    assert [found.id for found in told] == ["heimdall.E001"]
    failing.answer = (503, "SlowDown")
    told = [
        found for found in run_checks(include_deployment_checks=True) if found.id.startswith("heimdall.E")
    ]
    assert [found.id for found in told] == ["heimdall.E002"]
