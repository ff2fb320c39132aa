"""More of the same: a completed training trains so many epochs more, a dataset gets so many samples more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import transaction

from heimdall.errors import InvalidInput
from training import policy
from training.errors import TransitionRefused
from training.lifecycle import JobType, Status
from training.models import (
    Dataset,
    TrainingJob,
)
from training.services import programs
from training.services.datasets import hold_dataset, require_dataset
from training.services.forks import fork, named_after
from training.services.submitting import submit
from training.services.transition import Result


def extend(
    job: TrainingJob,
    *,
    by: Any,
    samples: int | None = None,
    epochs: int | None = None,
    job_name: str = "",
    on_made: Callable[[Result], object] = lambda result: None,
) -> Result:
    """More of the same: so many epochs of a completed training, or so many samples of a dataset.

    `on_made` is called in the transaction that makes the job: where it raises, no job is made.
    """
    if job.job_type == JobType.SYNTHETIC_DATA:
        with transaction.atomic():
            result = _extend_data(job, by=by, samples=samples, epochs=epochs)
            on_made(result)
            return result
    policy.require(by, policy.SEE, job)
    if samples is not None:
        raise InvalidInput({"samples": ["A training is extended by epochs."]})
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise InvalidInput({"epochs": ["Say by how many epochs: a whole number from 1."]})
    refused = why_not_extendable(job)
    if refused:
        raise TransitionRefused(refused, status=job.status, stop=job.stop, stop_at=job.stop_at)
    result = fork(
        job,
        by=by,
        config={"epochs": (job.config["epochs"] if programs.is_program(job) else job.total_epochs) + epochs},
        job_name=job_name or named_after(job, "extended"),
        checkpoint=job.latest_checkpoint_id,
        on_made=lambda forked: on_made(_extended(forked, job)),
    )
    return _extended(result, job)


def extend_dataset(dataset: Dataset, *, by: Any, samples: int, parent: TrainingJob | None = None) -> Result:
    """Make so many samples more: a new job writes exactly those that would have come next."""
    require_dataset(dataset, by=by, verb="extend")
    first = dataset.config.get("first_sample")
    if first is None:
        raise TransitionRefused(
            f"The data of recipe {dataset.recipe} cannot be extended: it does not say which sample is the first. "
            "Clone the job with more samples."
        )
    with transaction.atomic():
        # Two that extend at once would write the same samples: the second finds the first one's job.
        dataset = hold_dataset(dataset)
        makers = dataset.jobs.filter(job_type=JobType.SYNTHETIC_DATA).order_by("-id")
        unfinished = makers.exclude(status=Status.COMPLETED).first()
        if unfinished:
            raise TransitionRefused(
                f"Dataset {dataset.name} is not finished: job {unfinished.pk} is {unfinished.status}. "
                "Resume it, or wait for its end."
            )
        return submit(
            by=by,
            job_name=f"{dataset.name} (extended)",
            recipe=dataset.recipe,
            config=dataset.config
            | {"first_sample": dataset.config["first_sample"] + dataset.samples, "samples": samples},
            team=dataset.team if policy.may_name_team(by, dataset.team) else None,
            parent=parent or makers.first(),
            dataset=dataset,
        )


def why_not_extendable(job: TrainingJob) -> str:
    """The sentence that refuses to extend a training; empty where it can be extended."""
    if job.job_type == JobType.EXTERNAL:
        return f"Job {job.pk} is trained somewhere else: let it train longer there."
    if job.job_type != JobType.TRAINING:
        return "A job that makes data is extended on the page of its dataset."
    if programs.is_program(job) and not _takes_epochs(job):
        return (
            f"Job {job.pk} runs a program whose config has no epochs: how long it trains is its own affair. "
            "Fork it with other settings."
        )
    if job.status != Status.COMPLETED:
        return (
            f"Only a completed training is extended, and job {job.pk} is {job.status}; "
            "a fork begins from any checkpoint."
        )
    if job.current_epoch < job.total_epochs and not programs.is_program(job):
        return (
            f"Job {job.pk} stopped early, after epoch {job.current_epoch} of {job.total_epochs}: more epochs would "
            "end at once. Fork it with another early_stop_patience."
        )
    return ""


def _takes_epochs(job: TrainingJob) -> bool:
    epochs = job.config.get("epochs")
    return isinstance(epochs, int) and not isinstance(epochs, bool) and epochs > 0


def about_the_schedule(job: TrainingJob) -> str:
    """What an extended training is not, where that is so."""
    if job.config.get("lr_scheduler") != "cosine":
        return ""
    return (
        " Its learning rate falls along a cosine over all of its epochs and so rises again at first: the result is "
        "not that of a training that was this long from the beginning."
    )


def _extended(forked: Result, parent: TrainingJob) -> Result:
    return replace(forked, message=f"{forked.message}{about_the_schedule(parent)}")


def _extend_data(job: TrainingJob, *, by: Any, samples: int | None, epochs: int | None) -> Result:
    policy.require(by, policy.EDIT, job)
    if epochs is not None or samples is None:
        raise InvalidInput(
            {"samples" if epochs is None else "epochs": ["A dataset is extended by samples: say how many."]}
        )
    if job.dataset is None:
        raise TransitionRefused(
            "The dataset that this job made is gone.", status=job.status, stop=job.stop, stop_at=job.stop_at
        )
    return extend_dataset(job.dataset, by=by, samples=samples, parent=job)
