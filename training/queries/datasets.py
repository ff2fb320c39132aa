"""Datasets as every door shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from training.lifecycle import JobType, Status
from training.models import Dataset, TrainingJob
from training.queries.values import iso


def dataset_dicts(datasets: Iterable[Dataset]) -> list[dict[str, Any]]:
    """What every door shows of datasets, with one query for the jobs that make and read them."""
    datasets = list(datasets)
    jobs: dict[int, list[TrainingJob]] = {dataset.pk: [] for dataset in datasets}
    wanted = TrainingJob.objects.filter(dataset__in=datasets).order_by("id")
    for job in wanted.only("dataset", "job_type", "status", "config", "current_step", "total_steps"):
        jobs[job.dataset_id].append(job)
    return [_dataset_dict(dataset, jobs[dataset.pk]) for dataset in datasets]


def _dataset_dict(dataset: Dataset, jobs: list[TrainingJob]) -> dict[str, Any]:
    makers = [job for job in jobs if job.job_type == JobType.SYNTHETIC_DATA]
    return {
        "name": dataset.name,
        "recipe": dataset.recipe,
        "owner": dataset.owner.get_username(),
        "team": dataset.team.name if dataset.team_id and dataset.team else None,
        "state": _dataset_state(makers),
        "samples": dataset.samples,
        "wanted_samples": max([_end_of(job.config) for job in makers], default=dataset.samples),
        "size": dataset.size,
        "refused": dataset.refused,
        "fingerprint": dataset.fingerprint,
        "config": dataset.config,
        "made_by": [job.pk for job in makers],
        "read_by": [job.pk for job in jobs if job.job_type != JobType.SYNTHETIC_DATA],
        "created_at": iso(dataset.created_at),
        "updated_at": iso(dataset.updated_at),
    }


def _dataset_state(makers: list[TrainingJob]) -> str:
    """Making while a job is at it, incomplete where one stopped early."""
    statuses = {job.status for job in makers}
    if statuses & {Status.QUEUED, Status.RUNNING}:
        return "making"
    return "incomplete" if statuses - {Status.COMPLETED} else "complete"


def _end_of(config: dict[str, Any]) -> int:
    return int(config.get("first_sample", 0)) + int(config.get("samples", 0))


def dataset_summary(dataset: Dataset) -> dict[str, Any]:
    """What the recipe said of the shards: `histograms` added up, and `shown` of the first shard, for its drawing."""
    entries = list(dataset.shards.order_by("id").values_list("entry", flat=True))
    histograms: dict[str, Any] = {}
    for entry in entries:
        for name, found in (entry.get("histograms") or {}).items():
            _add_up(histograms, name, found)
    shown = (entries[0].get("shown") or {}) if entries else {}
    return shown | {"histograms": histograms, "samples": dataset.samples, "shards": len(entries)}


def _add_up(histograms: dict[str, Any], name: str, found: dict[str, Any]) -> None:
    """Shards of one dataset share their edges; one that does not is left out rather than mixed in."""
    known = histograms.setdefault(name, found | {"counts": [0] * len(found["counts"])})
    if all(known[edge] == found[edge] for edge in ("scale", "low", "high")) and len(known["counts"]) == len(
        found["counts"]
    ):
        known["counts"] = [one + other for one, other in zip(known["counts"], found["counts"], strict=True)]
