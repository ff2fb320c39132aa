"""The example programs of a checkout: what `make examples` queues, and `make run` where HEIMDALL_DEMO asks for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from heimdall.errors import InvalidInput
from training import services
from training.management.program_options import bring
from training.services import Result

_TRAINED = ["python", "train.py"]


@dataclass(frozen=True)
class Example:
    """One folder of `examples/`. `needs`: a package beside Heimdall's own, without which it is left out."""

    folder: str
    description: str
    command: list[str] = field(default_factory=lambda: _TRAINED)
    needs: str = ""
    program: dict[str, Any] = field(default_factory=dict)


EXAMPLES = (
    Example("loop", "A loop of one's own: five lines make it a job."),
    Example("gan", "Two networks with two optimizers, and two loaders at once."),
    Example("ppo", "An agent plays, then learns from it; there is no loader."),
    Example("diffusion", "Averaged weights, and a loader made anew in each epoch."),
    Example("hugging_face", "A Hugging Face Trainer: one line.", needs="transformers"),
    Example("lightning", "A Lightning Trainer: one line.", needs="lightning"),
    Example("accelerate", "A loop prepared by Accelerate.", needs="accelerate"),
    Example(
        "numbers",
        "A command in Python that saves itself on SIGTERM.",
        program={
            "checkpoint_folder": "checkpoints",
            "resume_arguments": ["--resume"],
            "metric_patterns": [r"step=(?P<step>\d+) inertia=(?P<inertia>[0-9.]+)"],
        },
    ),
    Example(
        "shell",
        "A command in bash that saves itself on SIGTERM.",
        command=["bash", "count.sh"],
        program={
            "checkpoint_folder": "checkpoints",
            "metric_patterns": [r"step=(?P<step>\d+) value=(?P<value>\d+)"],
        },
    ),
)


def queue_examples(by: User) -> Iterator[Result]:
    """Submit those that can run here, each with its code. Raises InvalidInput where there is no checkout."""
    root = settings.BASE_DIR / "examples"
    if not root.is_dir():
        raise InvalidInput({"examples": [f"There is no folder {root}: the examples are part of a checkout."]})
    for one in EXAMPLES:
        if not one.needs or importlib.util.find_spec(one.needs):
            yield services.submit(
                by=by,
                job_name=f"Example: {one.folder}",
                description=one.description,
                config={},
                program={"command": one.command, **one.program},
                code=bring(root / one.folder, by=by).digest,
            )
