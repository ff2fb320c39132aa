"""Names that people choose never become a path outside of its folder, and nothing that they write is an address
that Heimdall would call."""

from __future__ import annotations

import re
import string

import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heimdall.recipes import registry
from training import queue, services
from training.fields import NAME_LENGTH
from training.models import TrainingJob, dataset_storage
from training.services.datasets import name_dataset
from training.store import checkpoints

HOSTILE = ["../../etc/passwd", "..\\..\\boot.ini", "/etc/shadow", "a/../../b", "....//....//x", "%2e%2e%2fx", "~root",
           "con", "a\u2215b", "\uff0e\uff0e\uff0fx", "file:///etc/passwd", "http://169.254.169.254/", "$(id)", "`id`",
           "-rf", ".hidden", "x" * 500]  # fmt: skip
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@pytest.mark.django_db
@QUICK
@given(name=st.sampled_from(HOSTILE) | st.text(max_size=300))
def test_the_dataset_of_any_job_has_a_name_that_is_one_plain_folder(alice, name):
    dataset = name_dataset(name, recipe="shards", config={}, owner=alice, team=None)
    assert set(dataset.name) <= {*string.ascii_lowercase, *string.digits, "-", "_"}
    assert 0 < len(dataset.name) <= 100
    reverse("dataset", args=[dataset.name])


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "jobs/../../x", "..", "jobs/1/../../../x"])
def test_the_stores_refuse_a_way_out(name):
    for storage in (checkpoints.checkpoint_storage(), dataset_storage()):
        with pytest.raises(SuspiciousFileOperation):
            storage.path(name)


@pytest.mark.django_db
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_or_only_a_name(client, alice, name):
    client.force_login(alice)
    answer = client.post("/jobs/new/?recipe=tiny", {"job_name": name, "priority": 0})
    assert (answer.status_code, TrainingJob.objects.filter(job_name=name).count()) == (
        (302, 1) if len(name) <= NAME_LENGTH else (400, 0)
    )
    for job in TrainingJob.objects.all():
        assert (
            client.get(f"/jobs/{job.pk}/log/")["Content-Disposition"]
            == f'attachment; filename="job-{job.pk}.log"'
        )
    for url in (
        f"/jobs/{name}/",
        f"/datasets/{name}/",
        f"/v1/training/jobs/{name}",
        f"/v1/training/recipes/{name}",
    ):
        assert 400 <= client.get(url, follow=True).status_code < 500, url


def test_no_field_of_any_recipe_is_an_address_to_call():
    """There is no webhook and no download: no request leaves for where somebody points it."""
    for name in registry.names():
        text = str(registry.schema(name)).lower()
        assert not re.search(r"\b(url|uri|webhook|callback|endpoint)\b", text), name


# A queue message, in every state of its job.


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("status", ["running", "paused", "completed", "failed", "cancelled"])
def test_a_message_that_comes_late_or_twice_does_nothing(make_job, settings, tmp_path, status):
    from training.models import Attempt, Event
    from training.worker import tasks

    settings.DATA_DIR = tmp_path
    services.register_node()
    job = make_job(status=status)
    before = (Attempt.objects.count(), Event.objects.count(), TrainingJob.objects.values().get(pk=job.pk))
    for _ in range(2):
        queue.wake(job.pk)
        tasks.supervise(job.pk)
    after = (Attempt.objects.count(), Event.objects.count(), TrainingJob.objects.values().get(pk=job.pk))
    assert after == before
