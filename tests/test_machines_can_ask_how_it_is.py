"""/readyz says which part cannot work, /metrics counts what is so, JSON log lines name the job and the attempt."""

from __future__ import annotations

import json
import logging

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import OperationalError
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from heimdall.site import logs
from tests.support.stored import stored_checkpoint
from tests.support.tokens import token_of
from training import services
from training.errors import StorageUnavailable
from training.models import TrainingJob
from training.store import checkpoints
from training.views import monitoring

pytestmark = pytest.mark.django_db


def ready() -> tuple[int, dict[str, str]]:
    answer = Client().get("/readyz")
    return answer.status_code, answer.json()["parts"]


def samples(user) -> dict[tuple, float]:
    """Every sample of /metrics by its name and labels."""
    client = Client()
    client.force_login(user)
    answer = client.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.content.decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_server_that_can_work_is_ready():
    assert ready() == (200, {"database": "ok", "migrations": "ok", "store": "ok"})


def test_the_part_that_cannot_work_is_named(monkeypatch):
    recorder = MigrationRecorder(connection)
    newest = max(name for app, name in recorder.applied_migrations() if app == "training")
    recorder.record_unapplied("training", newest)
    assert ready() == (503, {"database": "ok", "migrations": "not ok", "store": "ok"})
    recorder.record_applied("training", newest)

    def away() -> str:
        raise StorageUnavailable("The store cannot be read now.")

    monkeypatch.setattr(checkpoints, "mark", away)
    assert ready() == (503, {"database": "ok", "migrations": "ok", "store": "not ok"})

    def gone() -> None:
        raise OperationalError("no route to host")

    monkeypatch.setattr(monitoring, "_ask_database", gone)
    assert ready() == (503, {"database": "not ok"})


@pytest.mark.parametrize(("floor", "status"), [(0.001, 200), (1e9, 503)])
def test_a_disk_with_less_than_the_floor_free_is_no_store_that_works(settings, floor, status):
    settings.MIN_FREE_DISK_GB = floor
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["store"]) == (
        status,
        "ok" if status == 200 else "not ok",
    )


def test_the_free_bytes_of_the_disks_are_counted(settings):
    settings.METRICS_TOKEN = "a-token-for-prometheus"
    text = (
        Client().get("/metrics", headers={"Authorization": "Bearer a-token-for-prometheus"}).content.decode()
    )
    free = {
        line.split('"')[1]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("heimdall_disk_free_bytes{")
    }
    assert free.keys() == {"data", "store"}
    assert all(0 < number < 1e18 for number in free.values())


def test_metrics_are_not_for_strangers(settings, alice, admin_user):
    settings.METRICS_TOKEN = ""
    of = {user: token_of(user) for user in (alice, admin_user)}

    def status(header: str = "") -> int:
        return Client().get("/metrics", headers={"Authorization": header} if header else {}).status_code

    assert [status(), status("Bearer "), status("Bearer x"), status(f"Token {of[alice]}")] == [401] * 4
    assert [status(f"{word} {of[admin_user]}") for word in ("Token", "Bearer")] == [200] * 2
    settings.METRICS_TOKEN = "a long secret"
    assert [status("Bearer a long secret"), status("Bearer a long"), status("Bearer ")] == [200, 401, 401]
    client = Client()
    client.force_login(alice)
    assert client.get("/metrics").status_code == 401


def test_facts_are_counted_in_the_database(make_job, node, admin_user, alice):
    before = samples(admin_user)
    assert before["heimdall_queue_wait_seconds_count",] == 0
    job = make_job()
    make_job(status="paused")
    attempt = services.claim(node, slot=0, pid=1)
    stored = stored_checkpoint(step=0, size=1000, seconds=0.5)
    services.record_checkpoint(attempt, stored)
    found = samples(admin_user)
    assert (found["heimdall_jobs", "running"], found["heimdall_jobs", "paused"]) == (1, 1)
    assert (found["heimdall_node_slots", node.name], found["heimdall_node_slots_taken", node.name]) == (1, 1)
    assert 0 <= found["heimdall_node_heartbeat_age_seconds", node.name] < 60
    assert (
        found["heimdall_queue_wait_seconds_count",]
        == found["heimdall_queue_wait_seconds_bucket", "60.0"]
        == 1
    )
    assert (found["heimdall_checkpoints_total",], found["heimdall_checkpoint_bytes_total",]) == (1, 1000)
    assert found["heimdall_checkpoint_seconds_total",] == 0.5
    services.fail(attempt, code="x", message="x")
    assert samples(admin_user)["heimdall_attempts_total", "fail"] == 1
    assert samples(admin_user)["heimdall_oldest_queued_age_seconds",] == 0
    assert TrainingJob.objects.get(pk=job.pk).status == "failed"


def test_no_counter_falls_when_a_job_is_deleted(make_job, node, admin_user, alice):
    services.join_installation()
    job = make_job()
    attempt = services.claim(node, slot=0, pid=1)
    services.fail(attempt, code="x", message="x")
    before = samples(admin_user)
    job.refresh_from_db()
    services.delete(job, by=alice)
    after = samples(admin_user)
    counters = [key for key in before if key[0].endswith(("_total", "_count", "_bucket", "_sum"))]
    ours = [key for key in counters if not key[0].startswith("heimdall_request")]
    assert len(ours) > 10
    assert {key: after[key] for key in ours} == {key: before[key] for key in ours}
    assert after["heimdall_attempts_total", "fail"] == 1


def test_a_job_that_went_back_to_the_queue_has_waited_since_then(make_job, node):
    job = make_job()
    first = services.claim(node, slot=0, pid=1)
    TrainingJob.objects.filter(pk=job.pk).update(queued_at="2020-01-01T00:00:00Z")
    services.land(first, final=True)
    second = services.claim(node, slot=0, pid=1)
    assert second.job_id == job.pk
    assert 0 <= second.waited_seconds < 60


def test_requests_are_measured_by_the_name_of_their_address(make_job, admin_user, client):
    client.force_login(admin_user)
    for _ in range(2):
        client.get(f"/jobs/{make_job().pk}/")
    client.get("/nowhere/at/all")
    found = samples(admin_user)
    assert found["heimdall_request_seconds_count", "GET", "job", "2xx"] >= 2
    assert found["heimdall_request_seconds_count", "GET", "nowhere", "4xx"] >= 1
    assert not [key for key in found if "/jobs/" in str(key)]


def test_each_line_of_a_supervisor_says_of_which_attempt_it_tells(settings):
    import io
    from logging import StreamHandler
    from logging.config import dictConfig

    dictConfig(settings.LOGGING | {"disable_existing_loggers": False})
    handler = next(one for one in logging.getLogger().handlers if type(one) is StreamHandler)
    from pythonjsonlogger.json import JsonFormatter

    lines, old = io.StringIO(), (handler.stream, handler.formatter)
    handler.setStream(lines)
    handler.setFormatter(JsonFormatter())
    try:
        with logs.about(job=7, attempt=2):
            logging.getLogger("training.store.file_system").warning("the store is slow")
            logging.getLogger("botocore").warning("somebody else's library")
        logging.getLogger("training").warning("afterwards")
    finally:
        handler.setStream(old[0])
        handler.setFormatter(old[1])
    inside, foreign, after = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (inside["job"], inside["attempt"]) == (foreign["job"], foreign["attempt"]) == (7, 2)
    assert "job" not in after
