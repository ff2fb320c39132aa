"""What a training uses of its machine is sampled, folded to minutes after an hour, and read as columns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from training import services
from training.host.trainer_meter import TrainerMeter
from training.models import Attempt, Node, ResourceSample
from training.queries.resources import MOST_POINTS, resources_of

pytestmark = pytest.mark.django_db
# A parent that idles and a child that computes: what its processes use together is what counts.
FAMILY = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"


@pytest.fixture
def family():
    process = subprocess.Popen([sys.executable, "-c", FAMILY], start_new_session=True)
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_children_of_a_trainer_count(family):
    meter, trainers = TrainerMeter(), {family.pid: None}
    first = meter.read(trainers)[family.pid]
    assert first["cpu_percent"] is None  # a rate needs two readings
    assert first["memory"] > 1e6
    deadline = time.monotonic() + 60
    while (meter.read(trainers)[family.pid]["cpu_percent"] or 0) < 10:
        assert time.monotonic() < deadline, "a child that computes was not seen"
        time.sleep(0.05)


def test_one_that_is_gone_is_left_out():
    assert TrainerMeter().read({2**22 + 1: None}) == {}


def test_open_attempts_of_this_host_are_sampled(make_job, family):
    job = make_job(status="running")
    make_job(status="running")  # its trainer has not started yet
    node = Node.objects.get()
    Attempt.objects.filter(job=job).update(trainer_pid=family.pid)
    assert services.sample_resources(node, TrainerMeter()) == 1
    sample = ResourceSample.objects.get()
    assert (sample.job, sample.attempt, sample.gpu_percent) == (job, 1, None)
    assert sample.memory > 1e6


def test_samples_of_a_minute_are_put_together_after_an_hour(make_job):
    job, minute = make_job(), timezone.now().replace(second=0, microsecond=0) - timedelta(hours=2)
    for second in range(0, 120, 5):
        at = minute + timedelta(seconds=second)
        ResourceSample.objects.create(
            job=job, attempt=1, at=at, cpu_percent=100.0 * (second >= 60), memory=None
        )
    ResourceSample.objects.create(job=job, attempt=1, at=timezone.now(), cpu_percent=7.0)
    assert services.fold_resources() == 22
    assert services.fold_resources() == 0
    rows = list(ResourceSample.objects.values_list("cpu_percent", "span_seconds", "memory"))
    assert rows == [(0.0, 60.0, None), (100.0, 60.0, None), (7.0, 0.0, None)]


def test_columns_have_no_more_points_than_a_screen(make_job, client, alice, mallory):
    job, begin = make_job(), timezone.now()
    ResourceSample.objects.bulk_create(
        ResourceSample(job=job, attempt=1, at=begin + timedelta(seconds=n), cpu_percent=float(n % 2))
        for n in range(1500)
    )
    found = resources_of(job)
    assert len(found["times"]) == 500 <= MOST_POINTS
    assert set(found["values"]) == {"cpu_percent"}  # what was never measured has no column
    address = f"/v1/training/jobs/{job.pk}/resources"
    client.force_login(alice)
    assert client.get(address).json() == found
    client.force_login(mallory)
    assert client.get(address).status_code == 404
