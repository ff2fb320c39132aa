"""What is done all day costs a bounded number of queries and modules: counted, for times depend on the machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.stored import stored_checkpoint
from training import services
from training.models import Attempt

pytestmark = pytest.mark.django_db


def queries(work) -> int:
    with CaptureQueriesContext(connection) as seen:
        work()
    return len([query for query in seen if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))])


def rows(count: int, start: int = 1):
    return [{"step": step, "epoch": 1, "loss": 0.5} for step in range(start, start + count)]


@pytest.fixture
def attempt(make_job) -> Attempt:
    return make_job(status="running", step=0).attempts.select_related("job").get()


def test_asking_for_the_wish_is_one_query(attempt):
    assert queries(lambda: services.read_stop_request(attempt)) == 1


def test_a_heartbeat_without_news_costs_few_queries(attempt):
    assert queries(lambda: services.beat(attempt)) == 2


def test_a_heartbeat_costs_the_same_for_one_step_and_for_many(attempt):
    one = queries(lambda: services.beat(attempt, services.Report(steps=rows(1))))
    many = queries(lambda: services.beat(attempt, services.Report(steps=rows(90, start=2))))
    assert many == one <= 5


def test_a_claim_costs_few_queries(make_job, alice):
    node = services.register_node()
    make_job(), make_job()
    assert queries(lambda: services.claim(node, slot=0, pid=1)) <= 6
    assert queries(lambda: services.claim(node, slot=0, pid=1, is_just_read=True)) <= 5
    services.resume(make_job(status="paused", step=20, with_checkpoint=True), by=alice)
    assert queries(lambda: services.claim(node, slot=0, pid=1)) <= 9


@pytest.mark.parametrize(("report", "most"), [(None, 9), (services.Report(steps=rows(20)), 12)])
def test_a_landing_with_its_checkpoint_and_its_last_report_costs_few_queries(make_job, report, most):
    job = make_job(status="running", stop="pause", stop_at="step")
    attempt = job.attempts.get()
    stored = stored_checkpoint(step=20, kinds=("pause",))
    assert queries(lambda: services.land(attempt, stored, report=report)) <= most
    job.refresh_from_db()
    assert (job.status, job.current_step, job.latest_checkpoint.file.name) == ("paused", 20, "jobs/1/a1/s20")
    told = job.events.order_by("-seq").values_list("seq", "kind", "status", "stop")[:2]
    assert list(told) == [
        (job.event_seq, "land", "paused", ""),
        (job.event_seq - 1, "checkpoint", "running", "pause"),
    ]
    assert job.metric_rows.count() == (20 if report else 0)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/v1/training/jobs", 14),
        ("/v1/training/jobs/{job}", 11),
        ("/v1/training/jobs/{job}/events", 8),
        ("/v1/training/jobs/{job}/metrics", 8),
        ("/v1/training/jobs/{job}/checkpoints", 9),
        ("/v1/training/recipes", 3),
        ("/", 24),
        ("/jobs/{job}/", 23),
    ],
)
def test_a_request_costs_a_bounded_number_of_queries(make_job, alice, path, most):
    jobs = [make_job(job_name=f"job {number}", with_checkpoint=True, step=1) for number in range(3)]
    client = Client()
    client.force_login(alice)
    address = path.format(job=jobs[0].pk)
    client.get(address)
    assert queries(lambda: client.get(address)) <= most
    for number in range(12):
        make_job(job_name=f"more {number}", with_checkpoint=True, step=1)
    assert queries(lambda: client.get(address)) <= most


HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "lightning",
    "transformers",
    "onnx",
    "safetensors",
    "PIL",
}


@pytest.mark.parametrize(("process", "most"), [("heimdall.site.asgi", 1_700), ("training.runner", 1_700)])
def test_a_process_imports_no_more_than_it_needs(process, most, tmp_path):
    code = f"import django, sys; django.setup(); import {process}; print(*sys.modules)"
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
        "HEIMDALL_DATA_DIR": str(tmp_path),
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert not {name.split(".")[0] for name in modules} & HEAVY
    assert len(modules) <= most
