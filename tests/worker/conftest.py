from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.worker.standin import Trainer
from training.runner.context import AttemptContext
from training.runner.landing import Training


@pytest.fixture
def training(make_job, request) -> Iterator[Training]:
    """A running job's, whose trainer is a stand-in; the parameter is what else the job is."""
    wanted = getattr(request, "param", {})
    attempt = make_job(status="running", **wanted).attempts.select_related("job").get()
    training = Training(AttemptContext(attempt, slot=0), SimpleNamespace())
    training.trainer = Trainer()
    yield training
    training.storing.close()
