"""A job's values for other tools: TensorBoard's event files, or a run of MLflow. Each needs its own package."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from heimdall.client import event_files
from heimdall.client.packages import required
from heimdall.client.synchronous.jobs import RemoteJob
from heimdall.errors import InvalidInput

METRICS_AT_ONCE = 1_000
PARAMETERS_AT_ONCE = 100
LONGEST_PARAMETER = 500
JOB_TAG, SERVER_TAG = "heimdall.job", "heimdall.server"
EXPERIMENT = "heimdall"
OUTCOMES = {"completed": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
PLACES = frozenset({"step", "epoch"})

Value = tuple[int, float, str, float]  # step, Unix time, name, number


def to_tensorboard(job: RemoteJob, folder: str | Path) -> Path:
    """Write `folder`/job-N, which `tensorboard --logdir folder` shows. InvalidInput: it is there already."""
    writing = required("tensorboard.summary.writer.event_file_writer")
    events = required("tensorboard.compat.proto.event_pb2")
    summaries = required("tensorboard.compat.proto.summary_pb2")
    target = Path(folder) / f"job-{job.id}"
    if target.is_dir() and event_files.files_of(target):
        raise InvalidInput(
            {"tensorboard": [f"{target} holds event files already: remove it, or name another folder."]}
        )
    values = list(values_of(job))
    target.mkdir(parents=True, exist_ok=True)
    writer = writing.EventFileWriter(str(target))
    try:
        for step, at, name, number in values:
            summary = summaries.Summary(value=[summaries.Summary.Value(tag=name, simple_value=number)])
            writer.add_event(events.Event(wall_time=at, step=step, summary=summary))
    finally:
        writer.close()
    return target


def to_mlflow(job: RemoteJob, uri: str, *, experiment: str = EXPERIMENT) -> str:
    """Make a run of the job's values and settings, and return its id. Raises InvalidInput where there is one."""
    mlflow = required("mlflow")
    entities = required("mlflow.entities")
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    number = found.experiment_id if found else client.create_experiment(experiment)
    about = {JOB_TAG: str(job.id), SERVER_TAG: job.url.partition("/jobs/")[0]}
    same = " and ".join(f"tags.`{name}` = '{value}'" for name, value in about.items())
    if runs := client.search_runs([number], same, max_results=1):
        known = runs[0].info.run_id
        raise InvalidInput(
            {"mlflow": [f"Job {job.id} is the run {known} there already: delete that one first."]}
        )
    run = client.create_run(
        number, run_name=job.name, tags=about, start_time=_milliseconds(job.fields.started_at)
    )
    metrics = [entities.Metric(name, value, int(at * 1000), step) for step, at, name, value in values_of(job)]
    for part in _parts(metrics, METRICS_AT_ONCE):
        client.log_batch(run.info.run_id, metrics=part)
    settings = [
        entities.Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in job.fields.config.items()
    ]
    for part in _parts(settings, PARAMETERS_AT_ONCE):
        client.log_batch(run.info.run_id, params=part)
    if job.status in OUTCOMES:
        end = _milliseconds(job.fields.completed_at)
        client.set_terminated(run.info.run_id, OUTCOMES[job.status], end_time=end)
    return str(run.info.run_id)


def values_of(job: RemoteJob) -> Iterator[Value]:
    """Every number that was measured of steps and of epochs, in the order of steps. Those that are not finite are
    null in the API, and left out."""
    at = _times(job)
    for per in ("step", "epoch"):
        for row in job.metrics(per=per):
            for name, value in row.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if is_number and name not in PLACES and math.isfinite(value):
                    yield row["step"], at(row["step"]), name, float(value)


def _times(job: RemoteJob) -> Callable[[int], float]:
    """When a step was, from the points of a curve and along straight lines between them."""
    series = max(job.curve(points=5_000)["series"], key=lambda one: len(one["steps"]), default=None)
    begin = datetime.fromisoformat(job.fields.created_at.replace("Z", "+00:00")).timestamp()
    steps, times = (series["steps"], series["times"]) if series and series["steps"] else ([0], [begin])

    def at(step: int) -> float:
        place = bisect.bisect_left(steps, step)
        if place == 0 or place == len(steps):
            return float(times[min(place, len(steps) - 1)])
        share = (step - steps[place - 1]) / (steps[place] - steps[place - 1])
        return float(times[place - 1] + share * (times[place] - times[place - 1]))

    return at


def _milliseconds(moment: str | None) -> int | None:
    return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000) if moment else None


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
