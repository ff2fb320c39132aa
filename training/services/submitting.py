"""New jobs: their settings are checked, their dataset is named or found, and they are queued."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction

from heimdall.errors import InvalidConfig
from heimdall.recipes import registry
from training import fields, hardware, placement, policy, queue
from training.lifecycle import Answer, JobType, Verb
from training.models import (
    Dataset,
    TrainingJob,
)
from training.services import limits, outbox
from training.services.datasets import dataset_named, name_dataset
from training.services.editing import index_tags
from training.services.transition import Result, add_event, hold


def submit(
    *,
    by: Any,
    job_name: str,
    recipe: str,
    config: dict[str, Any],
    description: str = "",
    team: Group | None = None,
    priority: int = 0,
    pool: str = "",
    parent: TrainingJob | None = None,
    dataset: Dataset | None = None,
    tags: Any = (),
) -> Result:
    """Queue a new job. Raises InvalidInput with the fields that were refused.

    A synthetic-data job begins a dataset, named after it, unless it is given the one that it extends.
    """
    info = registry.get(recipe)
    resolved = registry.validate(recipe, config)
    _refuse_what_does_not_fit(info, resolved)
    limits.require_rare_checkpoints(resolved)
    priority = fields.clean_priority(priority)
    limits.require_priority(priority, by=by)
    about = {
        "job_name": fields.clean_name(job_name),
        "description": fields.clean_description(description),
        "priority": priority,
        "pool": fields.clean_pool(pool),
        "team": policy.clean_team(team, by),
        "tags": fields.clean_tags(tags),
    }
    with transaction.atomic():
        limits.require_room_in_queue(by)
        if parent is not None:
            hold(parent)
        job = TrainingJob.objects.create(
            **about,
            dataset=dataset or _dataset_for(info.job_type, recipe, resolved, about, by),
            job_type=info.job_type,
            recipe=recipe,
            config=resolved,
            owner=by,
            parent=parent,
            total_epochs=resolved["epochs"] if info.job_type == JobType.TRAINING else 0,
            event_seq=1,
        )
        job.refresh_from_db()
        index_tags(job)
        outbox.announce(job, add_event(job, "submit", f"Submitted by {by}.", by=by), Verb.SUBMIT)
        task = queue.wake()
    return Result(job, Answer.NOTED, f"Job {job.pk} is queued.{_pool_hint(job.pool)}", task_id=task)


def _dataset_for(job_type: str, recipe: str, config: dict, about: dict, by: Any) -> Dataset | None:
    """The dataset that the job will write, or the one that its config names."""
    if job_type == JobType.SYNTHETIC_DATA:
        return name_dataset(about["job_name"], recipe=recipe, config=config, owner=by, team=about["team"])
    return dataset_named(config["dataset"], by=by) if config.get("dataset") else None


def _refuse_what_does_not_fit(info: registry.RecipeInfo, config: dict[str, Any]) -> None:
    """A config whose estimate is beyond all memory would only crash its trainer, again and again."""
    gigabytes = settings.MAX_JOB_MEMORY_GB
    most = gigabytes * 1e9 if gigabytes is not None else hardware.memory_bytes()
    needed = info.estimate_memory_bytes(config)
    if needed is not None and needed > most:
        raise InvalidConfig(
            {
                "config": [
                    f"This needs about {needed / 1e9:.1f} GB of memory, and {most / 1e9:.1f} GB is the limit "
                    "(HEIMDALL_MAX_JOB_MEMORY_GB). Make the model, the batch or the data smaller."
                ]
            }
        )


def _pool_hint(pool: str) -> str:
    if not pool or any(pool in node.pools for node in placement.live_nodes()):
        return ""
    return f" No live node is in the pool {pool} now: the job waits until one is."
