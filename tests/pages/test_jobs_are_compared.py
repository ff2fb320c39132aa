"""Jobs side by side, as a page and as files, and no job that is not the reader's."""

import csv
import io
import json

import pytest

from heimdall.trainer.protocol import EpochDone
from tests.pages.conftest import html, words
from training import services
from training.models import TrainingJob

pytestmark = pytest.mark.django_db


@pytest.fixture
def jobs(alice, node) -> list[TrainingJob]:
    made = []
    for name, rate in (("=one", 0.1), ("two", 0.2), ("three", 0.2)):
        job = services.submit(by=alice, job_name=name, recipe="tiny", config={"learning_rate": rate}).job
        attempt = services.claim(node, slot=0, pid=1, job_id=job.pk)
        rows = [{"step": step, "epoch": 1, "loss": rate / step, "grad_norm": None} for step in (1, 2, 3)]
        values = {"train_loss": rate, "val_loss": rate, "val_accuracy": 0.5 + rate, "val_rmse": 1 - rate}
        epoch = EpochDone(3, 1, values, best_epoch=1, best_val_loss=rate)
        services.beat(attempt, services.Report(steps=rows, epochs=[epoch]))
        made.append(TrainingJob.objects.get(pk=job.pk))
    return made


def address(*jobs: TrainingJob, **more: str) -> str:
    return f"/compare/?jobs={','.join(str(job.pk) for job in jobs)}" + "".join(
        f"&{k}={v}" for k, v in more.items()
    )


def test_what_differs_and_what_is_best_stands_side_by_side(browse, alice, jobs):
    text = html(browse(alice).get(address(*jobs)))
    seen = words(text)
    assert "Learning rate 0.1 0.2 0.2" in seen
    assert "1 differs" in seen
    assert "Best validation loss 0.1000 (lowest) 0.2000 0.2000" in seen
    assert "Val rmse 0.9 0.8 (lowest) 0.8 (lowest)" in seen
    assert "Val accuracy 0.6 0.7 0.7" in seen  # which is the better nobody can say
    assert text.count('<tr class="same">') > 10
    for job in jobs:
        assert f"/v1/training/jobs/{job.pk}/curve" in text


def test_two_to_fifty_visible_jobs_are_compared(browse, alice, mallory, jobs, make_job):
    client = browse(alice)
    assert "Name 2 to 50 jobs" in words(html(client.get("/compare/")))
    assert client.get(address(jobs[0])).status_code == 400
    assert "There is no job 999999" in words(html(client.get(address(*jobs) + ",999999")))
    many = [*jobs, *(make_job() for _ in range(48))]
    assert "at most 50 can be compared" in words(html(client.get(address(*many))))
    assert client.get(address(*many[:50])).status_code == 200
    hidden = browse(mallory).get(address(*jobs))
    assert hidden.status_code == 400
    assert "two" not in words(html(hidden)).split()


def test_both_are_files_too(browse, alice, mallory, jobs):
    client = browse(alice)
    rows = list(csv.reader(io.StringIO(client.get(address(*jobs, format="csv")).content.decode())))
    assert rows[0][1] == f"'=one (job {jobs[0].pk})"  # no formula for a spreadsheet
    assert ["learning_rate", "0.1", "0.2", "0.2"] in rows
    assert [job["id"] for job in client.get(address(*jobs, format="json")).json()["jobs"]] == [
        job.pk for job in jobs
    ]

    metrics = f"/jobs/{jobs[0].pk}/metrics/"
    rows = list(csv.DictReader(io.StringIO(b"".join(client.get(metrics).streaming_content).decode())))
    shown = [(row["step"], row["loss"], row["grad_norm"]) for row in rows]
    assert shown == [("1", "0.1", ""), ("2", "0.05", ""), ("3", str(0.1 / 3), "")]
    assert (rows[2]["epoch_val_accuracy"], rows[1]["epoch_val_accuracy"]) == ("0.6", "")

    found = json.loads(b"".join(client.get(metrics + "?format=json").streaming_content))
    assert [row["step"] for row in found] == [1, 2, 3]
    assert browse(mallory).get(metrics).status_code == 404
