"""Curves: every step once, each spike in the lows or highs of its point, the same from rows and from blocks."""

import random

import pytest

from heimdall.trainer.protocol import EpochDone, Started
from tests.support.stored import stored_checkpoint
from training import services
from training.models import Checkpoint, Metric, MetricBlock, TrainingJob
from training.queries.curves import curve
from training.services.landing import Landing

pytestmark = pytest.mark.django_db
SPAN = MetricBlock.SPAN
SPIKE = 700


def rows(first: int, last: int, *, epoch: int = 1, shift: float = 0.0) -> list[dict]:
    draw = random.Random(first)
    return [
        {
            "step": step,
            "epoch": epoch,
            "loss": (99.0 if step == SPIKE else 1 / step) + shift,
            "learning_rate": 0.1,
            "grad_norm": None if step == 5 else draw.random(),
        }
        for step in range(first, last + 1)
    ]


@pytest.fixture
def attempt(alice, node):
    services.submit(by=alice, job_name="long", recipe="tiny", config={"epochs": 2})
    attempt = services.claim(node, slot=0, pid=1)
    services.note_started(attempt, Started(step=0, epoch=0, total_steps=4000))
    for first in range(1, 2000, 100):  # as beats bring them: no block begins or ends with one
        services.beat(attempt, services.Report(steps=rows(first, first + 99)))
    values = {"train_loss": 0.5, "val_loss": 0.4, "val_accuracy": 0.75}
    services.beat(attempt, services.Report(epochs=[EpochDone(2000, 1, values, best_epoch=1)]))
    return attempt


def one(job: TrainingJob, metric: str = "loss", **options) -> dict:
    found = curve(job, metrics=[metric], **options)
    return found["series"][0]


@pytest.fixture
def job(attempt) -> TrainingJob:
    return TrainingJob.objects.get(pk=attempt.job_id)


def test_few_steps_are_shown_each_by_itself(job):
    found = one(job, first=3, last=7)
    assert (found["steps"], found["width"]) == ([3, 4, 5, 6, 7], 1)
    assert found["means"] == found["lows"] == found["highs"] == [1 / step for step in range(3, 8)]
    assert one(job, "grad_norm", first=5, last=5)["means"] == [None]


@pytest.mark.parametrize("points", [400, 40])
def test_folded_points_keep_means_spikes_and_both_ends(job, points):
    found = one(job, points=points)
    assert len(found["steps"]) == points
    assert found["steps"][-1] == 2000
    assert max(found["highs"]) == 99.0
    assert min(found["lows"]) == 1 / 2000
    width = 2000 // points
    assert found["means"][1] == pytest.approx(
        sum(1 / step for step in range(width + 1, 2 * width + 1)) / width
    )


def test_blocks_are_made_as_their_steps_come_and_say_the_same_as_rows(job):
    assert list(job.metric_blocks.values_list("number", flat=True)) == list(range(2000 // SPAN))
    from_blocks = [one(job, metric, points=4) for metric in ("loss", "grad_norm")]
    MetricBlock.objects.all().delete()
    from_rows = [one(job, metric, points=4) for metric in ("loss", "grad_norm")]
    for blocks, folded in zip(from_blocks, from_rows, strict=True):
        assert blocks["width"] == 2 * SPAN
        assert (min(blocks["lows"]), max(blocks["highs"])) == (min(folded["lows"]), max(folded["highs"]))
        assert blocks["steps"] == [512, 1024, 1536, 1792, 2000]  # and what is behind the last whole block
        assert blocks["means"][:1] == pytest.approx(
            [one(job, blocks["metric"], first=1, last=512, points=1)["means"][0]]
        )


def test_rows_with_gaps_are_folded_without_the_blocks_that_are_empty(alice, node):
    """As the log of a command places them, to the largest step that it may name."""
    services.submit(by=alice, job_name="sparse", recipe="tiny", config={"epochs": 2})
    attempt = services.claim(node, slot=0, pid=1)
    for step in (1, 250, 300, SPAN * 4, SPAN * 4 + 1, SPAN * 9, 2**53):
        services.beat(attempt, services.Report(steps=[{"step": step, "epoch": 0, "loss": float(step)}]))
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert list(job.metric_blocks.values_list("number", "last_step")) == [
        (0, 250), (1, 300), (3, SPAN * 4), (4, SPAN * 4 + 1), (8, SPAN * 9), (2**53 // SPAN - 1, 2**53),
    ]  # fmt: skip
    assert job.metric_blocks.get(number=0).values["loss"] == [1.0, 250.0, 251.0, 2]
    found = one(job, points=4)
    assert (min(found["lows"]), max(found["highs"])) == (1.0, 2.0**53)


def test_what_was_not_folded_when_it_came_is_folded_later(attempt, job, monkeypatch):
    before = list(job.metric_blocks.values_list("number", "values"))
    job.metric_blocks.all().delete()
    monkeypatch.setattr("training.services.metrics.MOST_ROWS", SPAN * 5)
    for last in (2001, 2048, 2304):
        services.beat(attempt, services.Report(steps=rows(last, last)))
    assert list(job.metric_blocks.values_list("number", "values")[: len(before)]) == before
    assert job.metric_blocks.count() == 9


def test_the_read_takes_a_few_queries_however_long_the_job(job, django_assert_max_num_queries):
    with django_assert_max_num_queries(14):
        curve(job, points=4)


def test_values_of_epochs_and_every_name_are_there(job):
    found = curve(job)
    assert {one["name"]: one["per"] for one in found["metrics"]} == {
        "loss": "step", "learning_rate": "step", "grad_norm": "step",
        "train_loss": "epoch", "val_loss": "epoch", "val_accuracy": "epoch",
    }  # fmt: skip
    assert [series["metric"] for series in found["series"]] == ["loss", "val_loss"]
    assert (found["series"][1]["steps"], found["series"][1]["means"]) == ([2000], [0.4])
    assert found["steps_per_epoch"] == 2000
    assert (one(job, "unheard_of")["per"], one(job, "unheard_of")["steps"]) == ("", [])
    assert one(job, first=9, last=3)["steps"] == []


def test_every_step_once_after_a_rollback_and_none_of_what_was_given_up(attempt, job, node):
    Checkpoint.objects.create(
        job=job, attempt=1, step=600, epoch=0, file="x", size=1, digest="d", header_sha256="f"
    )
    TrainingJob.objects.filter(pk=job.pk).update(
        latest_checkpoint=Checkpoint.objects.get(), checkpoints_stored=1
    )
    services.crash(attempt, exit_code=-9)
    job.refresh_from_db()
    assert one(job, points=4)["steps"][-1] == 600
    assert MetricBlock.objects.count() == 600 // SPAN
    again = services.claim(node, slot=0, pid=1)
    services.beat(again, services.Report(steps=rows(601, 1400, shift=1.0)))
    job.refresh_from_db()
    found = curve(job, points=700)
    assert sorted(set(found["series"][0]["steps"])) == found["series"][0]["steps"]
    assert Metric.objects.filter(job=job).count() == 1400
    assert max(one(job, points=3)["highs"]) == 100.0
    mark = found["marks"][0]
    assert (mark["step"], mark["word"], found["checkpoints"]) == (600, "crashed", [600])
    assert mark["resumed_at"] > mark["at"]


def test_a_stop_that_stands_further_back_than_its_rows_takes_them_back(attempt, job, alice):
    services.pause(job, by=alice, at="step")
    assert services.land(attempt, stored_checkpoint(step=600, kinds=("pause",))) is Landing.PAUSED
    job.refresh_from_db()
    assert (job.current_step, job.metric_rows.count(), job.metric_blocks.count()) == (600, 600, 600 // SPAN)


def test_a_restart_leaves_nothing_behind(attempt, job, alice):
    services.cancel(job, by=alice)
    assert services.land(attempt, final=True) is Landing.CANCELLED
    services.restart(job, by=alice)
    assert not MetricBlock.objects.exists()
    job.refresh_from_db()
    assert (curve(job)["series"], curve(job)["marks"]) == ([], [])


def test_the_api_gives_it_and_refuses_nonsense_by_name(browse, alice, mallory, job):
    client = browse(alice)
    address = f"/v1/training/jobs/{job.pk}/curve"
    found = client.get(
        address, {"metric": "learning_rate,val_loss", "from": 1, "to": 1000, "points": 10}
    ).json()
    assert [series["metric"] for series in found["series"]] == ["learning_rate", "val_loss"]
    assert (len(found["series"][0]["steps"]), found["from"], found["to"]) == (10, 1, 1000)
    refused = client.get(address, {"points": 1, "from": -3, "metrics": "loss"})
    assert set(refused.json()["error"]["fields"]) == {"points", "from", "metrics"}
    assert browse(mallory).get(address).status_code == 404
