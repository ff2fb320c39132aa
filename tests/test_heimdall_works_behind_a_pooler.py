"""A real pgbouncer that pools transactions: what it takes away is said, and with the remedy nothing is missed."""

from __future__ import annotations

import pytest
from django.db import OperationalError

from tests.support import postgres
from tests.support.pooler import PROGRAM, pooling
from tests.support.running import prepare, running
from training.checks import shortcomings

pytestmark = [
    pytest.mark.pgbouncer,
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed: apt-get install pgbouncer"),
]
LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
CONFIG = {"epochs": 4, "samples": 160, "step_seconds": 0.05, "seed": 7}


def told(url: str, django_db_blocker) -> list[str]:
    with django_db_blocker.unblock(), postgres.instead(url):
        return [found.id for found in shortcomings()]


@pytest.fixture
def limited(postgresql):
    """The limits stand in the database."""
    for limit in LIMITS:
        postgresql.execute(f"ALTER ROLE heimdall SET {limit} = '30s'")
    yield
    postgresql.execute("ALTER ROLE heimdall RESET ALL")


def test_startup_options_are_refused_until_they_are_left_out(postgresql, django_db_blocker):
    with (
        pooling(postgresql, leaves_out_options=False) as pooler,
        pytest.raises(OperationalError, match="unsupported startup parameter: options"),
    ):
        told(pooler.url(postgresql.empty()), django_db_blocker)


def test_what_it_takes_away_is_said(postgresql, django_db_blocker):
    with pooling(postgresql) as pooler:
        assert told(pooler.url(postgresql.empty()), django_db_blocker) == ["heimdall.W001", "heimdall.W002"]


def test_nothing_is_said_with_the_remedies(postgresql, django_db_blocker, limited, settings):
    settings.LISTEN_URL = postgresql.empty()
    with pooling(postgresql) as pooler:
        assert told(pooler.url(settings.LISTEN_URL), django_db_blocker) == []


@pytest.mark.processes
@pytest.mark.parametrize("listens", [True, False], ids=["past the pooler", "nowhere"])
def test_a_job_runs_pauses_and_resumes_with_the_same_bits(postgresql, tmp_path, limited, listens):
    with pooling(postgresql) as pooler:
        pooler.copy("heimdall", prepare)
        settings = {"HEIMDALL_LISTEN_URL": pooler.direct} if listens else {}
        with running(tmp_path, server=pooler, **settings) as site:
            job, undisturbed = site.submit(**CONFIG), site.submit(**CONFIG)
            site.wait_for_step(job, 3)
            site.pause(job, "step")
            site.wait_for_status(job, "paused")
            site.verb(job, "resume")
            for each in (job, undisturbed):
                assert site.wait_for_status(each, "completed", "failed")["status"] == "completed"
            assert site.final(job)["digest"] == site.final(undisturbed)["digest"]
            rows = [[row["values"] for row in site.metrics(one)] for one in (job, undisturbed)]
            assert rows[0] == rows[1]
            assert "Traceback" not in site.log, site.log
            assert ("is not heard" in site.log) is not listens
