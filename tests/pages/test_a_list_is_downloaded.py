import csv
import json

import pytest

from training.models import TrainingJob
from training.presentation import exports

pytestmark = pytest.mark.django_db


def body(answer) -> str:
    return b"".join(answer.streaming_content).decode()


@pytest.fixture
def some_jobs(make_job, mallory, monkeypatch):
    monkeypatch.setattr(exports, "ROWS", 2)  # so that a list has several reads
    for name in ("apple", "=1+1", 'a "quoted", name\nwith a line', "-5", "cherry"):
        make_job(job_name=name, status="failed", train_loss=-0.5, tags=["a", "b"])
    make_job(job_name="queued")
    make_job(job_name="hidden", owner=mallory, team=None, status="failed")


def test_csv_has_every_job_that_the_filters_show_and_no_formula(browse, alice, some_jobs):
    answer = browse(alice).get("/jobs/download/?format=csv&status=failed&ordering=id")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="jobs.csv"'
    rows = list(csv.DictReader(body(answer).splitlines(keepends=True)))
    assert [row["job_name"] for row in rows] == [
        "apple", "'=1+1", 'a "quoted", name\nwith a line', "'-5", "cherry",
    ]  # fmt: skip
    assert (rows[0]["train_loss"], rows[0]["tags"], rows[0]["owner"]) == ("-0.5", "a b", "alice")


def test_json_is_what_the_api_says(browse, alice, some_jobs):
    client = browse(alice)
    found = json.loads(body(client.get("/jobs/download/?format=json&status=failed&ordering=id")))
    assert found == client.get("/v1/training/jobs?status=failed&ordering=id").json()["results"]
    assert json.loads(body(client.get("/jobs/download/?format=json&status=running"))) == []


def test_nothing_is_missed_or_doubled_while_jobs_come(browse, alice, some_jobs, make_job):
    answer = browse(alice).get("/jobs/download/?format=json")
    pieces = iter(answer.streaming_content)
    text = next(pieces).decode()
    make_job(job_name="came meanwhile")
    text += b"".join(pieces).decode()
    ids = [job["id"] for job in json.loads(text)]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == TrainingJob.objects.exclude(job_name__in=["came meanwhile", "hidden"]).count()
