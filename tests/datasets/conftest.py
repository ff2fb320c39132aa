"""A small RF dataset in the database and in a store of its own, made by the recipe itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from heimdall.trainer.protocol import StagedShard
from tests.api.conftest import _fresh_throttles, api, client_of  # noqa: F401
from tests.pages.conftest import browse  # noqa: F401
from training import services
from training.models import Attempt, Dataset, TrainingJob
from training.store import datasets

CONFIG = {"samples": 500, "samples_per_shard": 200, "seed": 5}


@pytest.fixture(autouse=True)
def _stores(settings, tmp_path):
    backend = "training.store.file_system.AtomicFileSystemStorage"
    settings.STORAGES = settings.STORAGES | {
        name: {"BACKEND": backend, "OPTIONS": {"location": tmp_path / "store" / name}}
        for name in ("datasets", "checkpoints")
    }
    settings.SCRATCH_DIR = tmp_path / "scratch"


@pytest.fixture
def make_dataset(alice, team, node, tmp_path) -> Callable[..., Dataset]:
    def make(name: str = "north", *, finish: bool = True, shards: int = 9, **config) -> Dataset:
        wanted = {"by": alice, "job_name": name, "recipe": "rf_dataset", "team": team}
        job = services.submit(**wanted, config=CONFIG | config).job
        attempt = services.claim(node, slot=0, pid=1, job_id=job.pk)
        record(attempt, tmp_path / name, shards)
        if finish:
            services.complete(attempt, None)
        return Dataset.objects.get(pk=job.dataset_id)

    return make


@pytest.fixture
def dataset(make_dataset) -> Dataset:
    return make_dataset()


def record(attempt: Attempt, folder: Path, most: int = 9) -> None:
    """Make and record the shards of the attempt's job, as its trainer and supervisor would."""
    from heimdall.recipes.rf_dataset.config import Config
    from heimdall.recipes.rf_dataset.recipe import Recipe

    job = TrainingJob.objects.get(pk=attempt.job_id)
    folder.mkdir(exist_ok=True)
    recipe = Recipe(Config.model_validate_json(json.dumps(job.config)), folder)
    for number in range(min(recipe.shards, most)):
        path, summary = recipe.generate(number, folder)
        content = path.read_bytes()
        entry = {"shard": number, "path": path.name, "size": len(content), **summary}
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        staged = StagedShard(str(path), entry, done=number + 1, total=recipe.shards)
        stored = datasets.store(staged, dataset=job.dataset.name, job_id=job.pk, attempt=attempt.number)
        services.record_shard(attempt, stored)
