"""New jobs: their settings are checked, their dataset is named or found, and they are queued."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction

from heimdall.errors import InvalidConfig, InvalidInput
from heimdall.recipes import registry
from heimdall.recipes.demand import device_demand
from training import fields, hardware, placement, policy, queue
from training.lifecycle import Answer, JobType, Verb
from training.models import (
    Dataset,
    TrainingJob,
)
from training.services import limits, outbox, programs
from training.services.column_values import index_config
from training.services.datasets import dataset_named, name_dataset
from training.services.editing import index_tags
from training.services.transition import Result, add_event, hold


def submit(
    *,
    by: Any,
    job_name: str,
    config: dict[str, Any],
    recipe: str = "",
    program: dict[str, Any] | None = None,
    code: str = "",
    secrets: dict[str, str] | None = None,
    kept_secrets: str = "",
    description: str = "",
    team: Group | None = None,
    priority: int = 0,
    pool: str = "",
    parent: TrainingJob | None = None,
    dataset: Dataset | None = None,
    tags: Any = (),
) -> Result:
    """Queue a new job: of a recipe, or of a program with its code's digest. Raises InvalidInput with the fields that
    were refused.

    A synthetic-data job begins a dataset, named after it, unless it is given the one that it extends. secrets: what
    the program finds in its environment and nobody sees; kept_secrets: those of another job, as they are kept.
    """
    _require_one_of(recipe, program, code, secrets)
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
        if program is not None:
            settled = programs.checked(
                program, code, config, by=by, secrets=secrets, kept_secrets=kept_secrets
            ).columns()
        else:
            settled = _by_recipe(recipe, config, about, by=by, dataset=dataset)
        limits.require_rare_checkpoints(settled["config"])
        slots = _slots_of(settled)
        job = TrainingJob.objects.create(**about, **settled, **slots, owner=by, parent=parent, event_seq=1)
        job.refresh_from_db()
        index_tags(job)
        index_config(job)
        outbox.announce(job, add_event(job, "submit", f"Submitted by {by}.", by=by), Verb.SUBMIT)
        task = queue.wake()
    return Result(job, Answer.NOTED, f"Job {job.pk} is queued.{_hint(job)}", task_id=task)


def _require_one_of(recipe: str, program: Any, code: str, secrets: Any) -> None:
    if program is None and not recipe:
        raise InvalidInput({"recipe": ["Name a recipe, or give a program with its code."]})
    if program is not None and recipe:
        raise InvalidInput({"program": ["A job has a recipe or a program, not both."]})
    if program is None and (code or secrets):
        raise InvalidInput({"program": ["Code and secrets belong to a program: describe it, too."]})


def _by_recipe(
    recipe: str, config: dict[str, Any], about: dict, *, by: Any, dataset: Dataset | None
) -> dict[str, Any]:
    """What a job of this recipe has of it."""
    info = registry.get(recipe)
    resolved = registry.validate(recipe, config)
    _refuse_what_does_not_fit(info, resolved)
    return {
        "job_type": info.job_type,
        "recipe": recipe,
        "config": resolved,
        "dataset": dataset or _dataset_for(info.job_type, recipe, resolved, about, by),
        "total_epochs": resolved["epochs"] if info.job_type == JobType.TRAINING else 0,
    }


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


def _slots_of(settled: dict[str, Any]) -> dict[str, Any]:
    """The slots that the job asks for, as columns that a claim can compare."""
    demand = device_demand(settled.get("program") or settled["config"])
    return {
        "fewest_devices": demand.fewest,
        "most_devices": demand.most,
        "num_hosts": demand.hosts,
        "is_gang": demand.fewest > 1 or demand.hosts > 1,
    }


def _hint(job: TrainingJob) -> str:
    """What is told at once of a job that no live node could run."""
    nodes = list(placement.live_nodes())
    of_pool = [node for node in nodes if not job.pool or job.pool in node.pools]
    if job.pool and not of_pool:
        return f" No live node is in the pool {job.pool} now: the job waits until one is."
    large = sum(bool(placement.groups_for(job, node)) for node in of_pool)
    if not job.is_gang or not of_pool or large >= job.num_hosts:
        return ""
    if job.num_hosts > 1:
        return (
            f" It needs {job.num_hosts} hosts with {job.fewest_devices} slots each, and {large} of the live nodes "
            "can take part: the job waits until there are enough."
        )
    most = max(placement.most_slots(job, node) for node in of_pool)
    return (
        f" It needs {job.fewest_devices} slots of one host, and the largest live node has {most}: the job waits "
        "until one has them."
    )
