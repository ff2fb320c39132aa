"""The job's course in sentences, its log searched as a whole, and its settings to take away."""

import json
import shlex
from datetime import timedelta

import pytest
from django.core.management import call_command

from tests.pages.conftest import html, words
from training import services
from training.models import Event, LogChunk, TrainingJob
from training.queries.status_intervals import marks_of
from training.views.timeline import timeline_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(alice) -> TrainingJob:
    config = {"epochs": 4, "optimizer": "sgd", "seed": 7}
    return services.submit(by=alice, job_name="it's mine", recipe="tiny", config=config, tags=["a"]).job


def moved_apart(job: TrainingJob, seconds: int = 600) -> None:
    """Events as if each came ten minutes after the one before it."""
    first = Event.objects.filter(job=job).order_by("seq").first().created_at
    for number, event in enumerate(Event.objects.filter(job=job).order_by("seq")):
        Event.objects.filter(pk=event.pk).update(created_at=first + timedelta(seconds=number * seconds))


def test_the_course_of_a_job_is_told_in_sentences(browse, job, alice, bob, team, node):
    TrainingJob.objects.filter(pk=job.pk).update(team=team)
    attempt = services.claim(node, slot=0, pid=1)
    services.beat(
        attempt, services.Report(steps=[{"step": step, "epoch": 1, "loss": 1.0} for step in range(1, 7)])
    )
    services.crash(attempt, exit_code=-9)
    attempt = services.claim(node, slot=0, pid=1)
    job.refresh_from_db()
    services.pause(job, by=bob, at="step")
    services.land(attempt)
    job.refresh_from_db()
    services.resume(job, by=alice)
    moved_apart(job)
    told = [line.words for line in timeline_of(job, list(job.attempts.all()))][::-1]
    assert told == [
        "Waited 10 min",
        f"Attempt 1: trained 10 min on {node.name}, steps 0 to 6, crashed, resumed from step 0",
        "Waited 10 min",
        f"Attempt 2: trained 20 min on {node.name}, steps 0 to 0, paused",
        "Paused 10 min by bob, then resumed by alice",
        "Waits for a worker",
    ]
    assert [(mark["word"], mark["step"]) for mark in marks_of(job)] == [("crashed", 0), ("paused", 0)]
    assert "Paused 10 min by bob" in words(html(browse(alice).get(f"/jobs/{job.pk}/")))


def test_the_making_of_data_is_told_in_shards(alice, node):
    job = services.submit(by=alice, job_name="data", recipe="shards", config={}).job
    attempt = services.claim(node, slot=0, pid=1)
    running = timeline_of(job, list(job.attempts.all()))[0]
    assert running.words == f"Attempt 1: makes data on {node.name}, from shard 0"
    TrainingJob.objects.filter(pk=job.pk).update(current_step=4)
    services.crash(attempt, exit_code=-9)
    moved_apart(job)
    said = timeline_of(job, list(job.attempts.all()))[1].words
    assert (
        said
        == f"Attempt 1: made data for 10 min on {node.name}, shards 0 to 4, crashed, resumed from shard 4"
    )


def test_the_whole_log_is_searched_page_by_page(browse, job, alice, mallory, monkeypatch):
    monkeypatch.setattr("training.views.logs.MOST_HITS", 2)
    for number in range(4):
        LogChunk.objects.create(job=job, attempt=1, text=f"before\nsome <b>Needle</b> {number}\nafter\n")
    client, address = browse(alice), f"/jobs/{job.pk}/log/find/"
    first = client.get(address, {"q": "needle"})
    text = html(first)
    assert text.count("<mark>Needle</mark>") == 2
    assert "&lt;b&gt;" in text
    assert 'href="#hit-2"' in text
    following = first.context["next"]
    second = html(client.get(address, {"q": "needle", "after": following, "page": 3}))
    assert "Lines 3 to 4" in words(second)
    assert "More lines" not in second
    assert "No matches" in html(client.get(address, {"q": "hay"}))
    assert browse(mallory).get(address, {"q": "needle"}).status_code == 404


def test_the_copied_command_and_request_make_the_same_job(browse, job, alice):
    copies = {copy["name"]: copy["text"] for copy in browse(alice).get(f"/jobs/{job.pk}/").context["copies"]}
    assert json.loads(copies["JSON"]) == job.config
    command = shlex.split(copies["command"])
    assert command[:3] == ["python", "manage.py", "job"]
    call_command("job", command[3], "--as", "alice", *command[4:])
    again = TrainingJob.objects.latest("id")
    assert (again.config, again.job_name, again.tags) == (job.config, job.job_name, job.tags)
    body = json.loads(shlex.split(copies["curl"])[-1])
    assert body["config"] == {"epochs": 4, "optimizer": "sgd", "seed": 7}
    sent = browse(alice).post("/v1/training/jobs", json.dumps(body), "application/json")
    assert (sent.status_code, sent.json()["config"]) == (201, job.config)
