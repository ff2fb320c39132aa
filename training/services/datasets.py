"""Datasets: named when their job is submitted, grown shard by shard under the attempt's fence."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils.text import slugify

from heimdall.errors import InvalidInput
from training import policy
from training.errors import NotAllowed, NotFound, StorageUnavailable, TransitionRefused
from training.lifecycle import TERMINAL
from training.models import Attempt, Dataset, Shard, TrainingJob
from training.services.leases import renew
from training.store import datasets
from training.store.datasets import StoredShard

NAME_LENGTH = 100


def name_dataset(job_name: str, *, recipe: str, config: dict[str, Any], owner: Any, team: Any) -> Dataset:
    """A new dataset with a name that is made of the job's and is free."""
    stem = (slugify(job_name) or "dataset")[: NAME_LENGTH - 8]
    while True:
        taken = set(Dataset.objects.filter(name__startswith=stem).values_list("name", flat=True))
        name = next(name for name in _names(stem) if name not in taken)
        try:
            with transaction.atomic():
                return Dataset.objects.create(name=name, recipe=recipe, config=config, owner=owner, team=team)
        except IntegrityError:
            continue  # somebody took the name since we looked


def dataset_named(name: str, *, by: Any) -> Dataset:
    """The dataset that a training's config names; it stays until the transaction ends.

    Raises InvalidInput where the actor cannot see one.
    """
    visible = visible_datasets(by)
    dataset = visible.select_for_update(no_key=True).filter(name=name).first()
    if dataset is None:
        shown = ", ".join(visible.order_by("-id").values_list("name", flat=True)[:10]) or "none yet"
        raise InvalidInput({"dataset": [f"There is no dataset {name!r}. There are: {shown}."]})
    return dataset


def visible_datasets(actor: Any) -> QuerySet[Dataset]:
    """A dataset is seen by its owner, its team, and whoever may see every job."""
    return Dataset.objects.filter(policy.visible(actor))


def require_dataset(dataset: Dataset, *, by: Any, verb: str) -> None:
    """Raise NotFound for a dataset the actor cannot see and NotAllowed for one that is somebody else's."""
    if not visible_datasets(by).filter(pk=dataset.pk).exists():
        raise NotFound(f"There is no dataset {dataset.name}.")
    if not policy.may_change_dataset(by, dataset):
        raise NotAllowed(
            f"You may see dataset {dataset.name}, but its owner and administrators alone may {verb} it."
        )


def hold_dataset(dataset: Dataset) -> Dataset:
    """The dataset as it is now, which is nobody else's to change until the transaction ends."""
    found = Dataset.objects.select_for_update().filter(pk=dataset.pk).first()
    if found is None:
        raise NotFound(f"There is no dataset {dataset.name}.")
    return found


def finished_shards(job: TrainingJob) -> list[int]:
    """Numbers of the shards that this job need not make again."""
    return list(Shard.objects.filter(job=job).order_by("number").values_list("number", flat=True))


def record_shard(attempt: Attempt, stored: StoredShard) -> Shard:
    """The stored file becomes a shard of the dataset, in one fenced transaction. Twice is once."""
    with transaction.atomic():
        job = renew(attempt, {"total_steps": stored.staged.total})
        entry = stored.staged.entry
        facts = {
            "dataset_id": job.dataset_id,
            "file": stored.name,
            "size": entry["size"],
            "sha256": entry["sha256"],
            "samples": entry.get("samples", 0),
            "entry": entry,
        }
        row, is_new = Shard.objects.get_or_create(job=job, number=entry["shard"], defaults=facts)
        if is_new and job.dataset is not None:
            _grow(job.dataset, row)
        finished = Shard.objects.filter(job=job).count()
        metrics = {"samples": sum_of_samples(job), **_refused_of(job)}
        TrainingJob.objects.filter(pk=job.pk).update(current_step=finished, metrics=metrics)
    return row


def sum_of_samples(job: TrainingJob) -> int:
    return sum(Shard.objects.filter(job=job).values_list("samples", flat=True))


def delete_dataset(dataset: Dataset, *, by: Any) -> None:
    """Remove a dataset and its files; never while a job that is not finished writes it or reads it."""
    require_dataset(dataset, by=by, verb="delete")
    with transaction.atomic():
        dataset = hold_dataset(dataset)
        dataset.jobs.filter(status__in=TERMINAL).update(dataset=None)
        used = dataset.jobs.first()
        if used:
            raise TransitionRefused(
                f"Dataset {dataset.name} is needed by job {used.pk}, which is {used.status}."
            )
        names = list(dataset.shards.values_list("file", flat=True))
        dataset.delete()
        transaction.on_commit(lambda: _delete_files(names))


def _names(stem: str):
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def _grow(dataset: Dataset, row: Shard) -> None:
    rows = list(dataset.shards.order_by("id").values_list("sha256", flat=True))
    named = json.dumps([dataset.recipe, dataset.config, rows], sort_keys=True)
    refused = dict(dataset.refused)
    for name, count in row.entry.items():
        if name.startswith("refused_"):
            reason = name.removeprefix("refused_")
            refused[reason] = refused.get(reason, 0) + count
    Dataset.objects.filter(pk=dataset.pk).update(
        samples=F("samples") + row.samples,
        size=F("size") + row.size,
        refused=refused,
        fingerprint=hashlib.sha256(named.encode()).hexdigest(),
        updated_at=Now(),
    )


def _refused_of(job: TrainingJob) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in Shard.objects.filter(job=job).values_list("entry", flat=True):
        for name, count in entry.items():
            if name.startswith("refused_"):
                counts[name] = counts.get(name, 0) + count
    return counts


def _delete_files(names: list[str]) -> None:
    try:
        datasets.delete_files(names)
    except StorageUnavailable:
        return  # they are only space
