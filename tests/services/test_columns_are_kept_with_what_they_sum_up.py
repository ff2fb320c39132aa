"""The rows by which jobs are filtered and sorted agree with the configs and the metrics that they sum up."""

from __future__ import annotations

import math
import random

import pytest
from django.core.management import call_command
from django.db import connection

from heimdall.trainer.protocol import EpochDone
from training import services
from training.models import Checkpoint, ConfigValue, Metric, MetricBlock, MetricValue, TrainingJob
from training.services import rollback

pytestmark = [pytest.mark.usefixtures("each_database"), pytest.mark.django_db]


def kept(job: TrainingJob) -> dict[str, tuple]:
    rows = MetricValue.objects.filter(job=job)
    return {row.name: (row.newest, row.lowest, row.highest) for row in rows}


def counted(job: TrainingJob) -> dict[str, tuple]:
    """From all rows, the slow way."""
    rows = list(Metric.objects.filter(job=job).order_by("step"))
    every = [row.values for row in rows] + [row.epoch_values for row in rows if row.epoch_values]
    series = {
        name: [values[name] for values in every if name in values] for values in every for name in values
    }
    finite = {name: [one for one in values if one is not None] for name, values in series.items()}
    return {
        name: (values[-1], min(finite[name], default=None), max(finite[name], default=None))
        for name, values in series.items()
    }


def steps(first: int, last: int) -> list[dict]:
    draw = random.Random(first)
    found = [{"step": step, "epoch": 1, "loss": draw.random()} for step in range(first, last + 1)]
    for row in found:
        if row["step"] % 300 == 7:
            row["rare"] = draw.random()
    return found


def done(step: int, epoch: int, **values: float) -> EpochDone:
    return EpochDone(step=step, epoch=epoch, values=values, best_epoch=1, best_val_loss=0.5)


def test_a_report_keeps_the_newest_the_lowest_and_the_highest_value(make_job):
    job = make_job(status="running")
    attempt = job.attempts.get()
    first = services.Report(steps=steps(1, 20), epochs=[done(20, 1, val_rmse=3.0)])
    for report in (first, first, services.Report(steps=[{"step": 21, "epoch": 2, "loss": math.nan}])):
        services.beat(attempt, report)
    services.beat(attempt, services.Report(steps=steps(22, 30), epochs=[done(30, 2, val_rmse=4.0)]))
    assert kept(job) == counted(job)
    assert kept(job)["val_rmse"] == (4.0, 3.0, 4.0)
    services.beat(attempt, services.Report(steps=[{"step": 31, "epoch": 2, "loss": math.inf}]))
    assert kept(job)["loss"] == counted(job)["loss"]
    assert kept(job)["loss"][0] is None


def test_a_job_that_is_taken_back_has_the_values_of_what_is_left(make_job):
    job = make_job(status="running", step=900)
    report = services.Report(
        steps=steps(1, 900), epochs=[done(600, 1, val_rmse=3.0), done(900, 2, val_rmse=9.0)]
    )
    services.beat(job.attempts.get(), report)
    assert MetricBlock.objects.filter(job=job).count() == 3
    assert kept(job) == counted(job)
    job.refresh_from_db()
    for step, epoch in ((700, 1), (513, 0), (512, 0), (3, 0)):
        rollback.to_checkpoint(job, Checkpoint(step=step, epoch=epoch))
        assert kept(job) == counted(job)
    rollback.to_checkpoint(job, None)
    assert kept(job) == {}


def test_a_job_that_makes_up_a_name_for_each_step_fills_no_table(make_job, monkeypatch):
    job = make_job(status="running")
    attempt = job.attempts.get()
    for begin in (1, 401):
        rows = [
            {"step": step, "epoch": 1, f"loss {step}": step, "loss": step}
            for step in range(begin, begin + 400)
        ]
        services.beat(attempt, services.Report(steps=rows))
    assert MetricValue.objects.filter(job=job).count() < 2 * MetricValue.MOST_NAMES
    assert kept(job)["loss"] == (800, 1, 800)


def test_a_submission_keeps_its_configs_values(alice):
    job = services.submit(by=alice, job_name="x", recipe="tiny", config={"samples": 40, "epochs": 2}).job
    found = {row.path: (row.number, row.text) for row in ConfigValue.objects.filter(job=job)}
    assert (found["samples"], found["epochs"]) == ((40.0, None), (2.0, None))
    assert found["deterministic"] == (None, "true")
    assert set(found) == {name for name, value in job.config.items() if value is not None}


@pytest.mark.django_db(transaction=True)
def test_an_older_database_gets_them_and_its_tokens_keep_what_they_may(make_job, alice):
    job = make_job(status="running")
    services.beat(job.attempts.get(), services.Report(steps=steps(1, 9), epochs=[done(9, 1, val_rmse=3.0)]))
    services.beat(job.attempts.get(), services.Report(steps=[{"step": 10, "epoch": 1, "loss": math.nan}]))
    before, configs = kept(job), set(ConfigValue.objects.values_list("path", "number", "text"))
    assert before["loss"][0] is None
    assert configs
    call_command("migrate", "training", "0008", verbosity=0)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO training_apitoken (user_id, name, digest, scope)"
                " VALUES (%s, 'a', 'a', 'full'), (%s, 'b', 'b', 'read')",
                [alice.pk, alice.pk],
            )
    finally:
        call_command("migrate", "training", verbosity=0)
    assert kept(job) == before
    assert set(ConfigValue.objects.values_list("path", "number", "text")) == configs
    assert list(alice.api_tokens.values_list("name", "scope")) == [("a", "admin"), ("b", "read")]
