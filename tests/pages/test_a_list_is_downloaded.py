import csv
import io
import json
import sys

import pyarrow.parquet
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from training.models import TrainingJob
from training.presentation import exports
from training.services.column_values import note_values

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


def test_every_format_has_every_job_and_the_columns_that_were_asked_for(browse, alice, some_jobs):
    client = browse(alice)
    note_values(TrainingJob.objects.get(job_name="apple"), [{"val_rmse": 2.5}])
    address = (
        "/v1/training/jobs/export?status=failed&ordering=id&fields=id,job_name,config.samples,metric.val_rmse"
    )
    rows = [json.loads(line) for line in body(client.get(f"{address}&format=jsonl")).splitlines()]
    assert [row["metric.val_rmse"] for row in rows] == [2.5, None, None, None, None]
    assert set(rows[0]) == {"id", "job_name", "config.samples", "metric.val_rmse"}
    assert json.loads(body(client.get(f"{address}&format=json"))) == rows
    answer = client.get(f"{address}&format=parquet")
    assert answer["Content-Disposition"] == 'attachment; filename="jobs.parquet"'
    table = pyarrow.parquet.read_table(io.BytesIO(b"".join(answer.streaming_content)))
    assert table.to_pylist() == rows
    assert [str(field.type) for field in table.schema] == ["int64", "string", "double", "double"]
    shown = client.get("/?config.samples__gt=1&ordering=-metric.val_rmse").content.decode()
    assert "config.samples&gt;1" in shown
    assert "by metric.val_rmse, highest first" in shown
    assert (
        "/jobs/download/?where=config.samples%3E1&amp;ordering=-metric.val_rmse&amp;format=parquet" in shown
    )


def test_an_export_needs_what_the_list_needs(browse, alice, some_jobs, monkeypatch):
    client = browse(alice)
    address = "/v1/training/jobs/export"
    assert client.get(f"{address}?fields=nothing").status_code == 400
    assert client.get(f"{address}?format=xls").status_code == 400
    assert "hidden" not in body(client.get(address))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused = client.get(f"{address}?format=parquet")
    assert refused.status_code == 400
    assert "pyarrow is not installed" in refused.json()["error"]["fields"]["format"][0]


def test_a_list_is_planned_once_however_many_pages_it_has(browse, alice, some_jobs):
    client = browse(alice)
    counted = []
    for rows in (2, 100):
        exports.ROWS = rows
        with CaptureQueriesContext(connection) as seen:
            body(client.get("/v1/training/jobs/export?status=failed"))
        counted.append(sum("count(*)" in query["sql"] for query in seen))
    assert counted[0] == counted[1] > 0
