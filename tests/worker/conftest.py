from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.worker.fake_trainer import FakeTrainer
from training.runner.context import AttemptContext
from training.runner.endings import TrainerSupervision


@pytest.fixture
def training(make_job, request) -> Iterator[TrainerSupervision]:
    """A running job's, whose trainer is a fake; the parameter is what else the job is."""
    wanted = getattr(request, "param", {})
    attempt = make_job(status="running", **wanted).attempts.select_related("job").get()
    training = TrainerSupervision(AttemptContext(attempt, slot=0), SimpleNamespace(rest_after_epoch=None))
    training.trainer = FakeTrainer()
    yield training
    training.storing.close()
