"""Every page weighs under 150 kB gzipped: its HTML, and each style, script and picture of ours that it pulls in."""

import gzip
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.utils import timezone

from training.models import Event, Metric

pytestmark = pytest.mark.django_db
MOST = 150_000
LINKED = re.compile(r'(?:href|src)="/static/([^"#?]+)')
IMPORTED = re.compile(r'(?:from|import) "\./([\w.-]+)"')


@pytest.fixture
def busy(make_job, alice):
    """As many jobs as a page holds, one of them with a long history."""
    jobs = [make_job(job_name=f"a job with quite a long name, number {number}") for number in range(50)]
    Metric.objects.bulk_create(
        Metric(
            job=jobs[0],
            step=step,
            epoch=step,
            attempt=1,
            values={"loss": 1 / step},
            epoch_values={"train_loss": 1 / step, "val_loss": 2 / step, "accuracy": 0.5},
        )
        for step in range(1, 501)
    )
    Event.objects.bulk_create(
        Event(
            job=jobs[0],
            seq=seq,
            kind="pause",
            message=f"Asked to pause at the end of epoch {seq}.",
            actor="alice",
            user=alice,
            status="running",
            created_at=timezone.now(),
        )
        for seq in range(2, 301)
    )
    return jobs[0]


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/jobs/{job}/",
        "/jobs/{job}/pause/",
        "/jobs/{job}/edit/",
        "/jobs/new/",
        "/datasets/",
        "/settings/notifications/new/",
        "/activity/",
    ],
)
def test_a_page_weighs_little(browse, alice, busy, address):
    answer = browse(alice).get(address.format(job=busy.pk))
    assert answer.status_code == 200
    files = linked(answer.content.decode())
    weights = {name: len(gzip.compress(Path(finders.find(name)).read_bytes())) for name in files}
    weights["the page itself"] = len(gzip.compress(answer.content))
    assert "heimdall/app.css" in weights
    assert sum(weights.values()) < MOST, weights


def linked(html: str) -> set[str]:
    """The static files of a page, and the modules that its modules import."""
    found, waiting = set(), set(LINKED.findall(html))
    while waiting:
        name = waiting.pop()
        found.add(name)
        if name.endswith(".js"):
            folder, text = Path(name).parent, Path(finders.find(name)).read_text()
            waiting |= {str(folder / module) for module in IMPORTED.findall(text)} - found
    return found
