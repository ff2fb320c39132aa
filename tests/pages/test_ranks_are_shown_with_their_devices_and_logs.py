"""The page of a job of several devices: where each rank computes, its GPU, and what it alone has printed."""

from __future__ import annotations

import pytest
from django.db.models.functions import Now
from django.urls import reverse

from training import queries, services
from training.models import LogChunk, Node, TrainingJob

pytestmark = pytest.mark.django_db

GPU = {"index": 0, "name": "GPU", "memory_total": 8_000_000_000, "memory_free": 6_000_000_000}


@pytest.fixture
def job(make_job) -> TrainingJob:
    load = {"gpus": [GPU | {"busy_percent": 37}, GPU | {"index": 1, "busy_percent": None}]}
    devices = [{"device": "cuda:0", "name": "a GPU"}, {"device": "cuda:1", "name": "a GPU"}]
    node = Node.objects.create(name="node", slots=2, last_seen_at=Now(), devices=devices, load=load)
    node.refresh_from_db()
    job = make_job(fewest_devices=2, most_devices=2, is_gang=True)
    services.claim(node, slot=0, pid=1)
    text = "first\n[rank 1] second\n[rank 1] third\nlast\n"
    LogChunk.objects.create(job=job, attempt=1, text=text)
    job.refresh_from_db()
    return job


def test_each_rank_has_its_slot_its_device_and_its_gpus_load(job, client, alice):
    client.force_login(alice)
    page = client.get(reverse("job", args=[job.pk])).content.decode()
    card = page[page.index('id="ranks"') :].split("</section>")[0]
    assert "2 of attempt 1" in card
    assert [f"slot {slot}<" in card for slot in (0, 1)] == [True, True]
    assert "37 %" in card
    assert card.count("a GPU") == 2
    assert "slots 0, 1" in page[page.index('id="attempts"') :]
    shown = queries.job_dict(job)
    assert (shown["ranks"], [row["device"] for row in shown["rank_devices"]]) == (2, ["cuda:0", "cuda:1"])


def test_a_slot_of_every_rank_shows_the_job(job, client, admin_user):
    client.force_login(admin_user)
    page = client.get(reverse("nodes")).content.decode()
    assert page.count(f'href="{reverse("job", args=[job.pk])}"') == 2


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("rank=1", ["[rank 1] second", "[rank 1] third"]),
        ("rank=1&q=third", ["[rank 1] third"]),
        ("rank=0", ["first", "last"]),
        ("q=r", ["first", "[rank 1] second", "[rank 1] third"]),
        ("rank=0&q=second", []),
    ],
)
def test_the_log_of_one_rank_is_found_by_itself(job, client, alice, asked, found):
    client.force_login(alice)
    answer = client.get(f"{reverse('job-log-find', args=[job.pk])}?{asked}")
    hits = answer.context["hits"]
    assert [hit.head + hit.text + hit.tail for hit in hits] == found
    assert ("No matches" in answer.content.decode()) == (not found)


def test_a_job_of_one_device_has_no_card_of_ranks(make_job, client, alice):
    client.force_login(alice)
    page = client.get(reverse("job", args=[make_job(status="running").pk])).content.decode()
    assert 'id="ranks"' not in page
