"""What people fill in on the pages alone: forks, extensions, and changes of a job's own fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms

from heimdall.recipes import registry
from training.fields import NAME_LENGTH
from training.models import Checkpoint, TrainingJob
from training.presentation.form_fields import Shown
from training.presentation.job_forms import OF_ANY_JOB, PREFIX, JobForm, NewJobForm
from training.services.forks import TRAINING, WEIGHTS

MOST_CHARACTERS = 4_000  # of a value that an address fills in: fifteen receivers


class ForkForm(NewJobForm):
    """The same, filled in from the job that it begins from, and what of that job is carried over."""

    def __init__(self, recipe: registry.RecipeInfo, user: Any, start: Checkpoint, *args: Any, **options: Any):
        super().__init__(recipe, user, *args, **options)
        choices = [
            (TRAINING, f"Everything: it goes on after step {start.step}"),
            (WEIGHTS, "The weights alone: it begins at step 0"),
        ]
        carry = forms.ChoiceField(
            choices=choices,
            initial=TRAINING,
            label="Carried over",
            help_text="Everything: weights, optimizer, schedule and generators; batch size, seed, optimizer, "
            "precision and validation part then stay as they are.",
        )
        self.fields = {"carry": carry, **self.fields}

    def submission(self) -> dict[str, Any]:
        """The arguments of services.fork, without who and which job."""
        given = super().submission()
        del given["recipe"]
        return given | {"carry": self.cleaned_data["carry"]}


class ExtendJobForm(forms.Form):
    epochs = forms.IntegerField(
        label="Additional epochs",
        min_value=1,
        max_value=100_000,
        initial=1,
        help_text="The new job goes on where this one ended; this one stays as it is.",
    )

    @property
    def shown(self) -> list[Shown]:
        return [Shown(self[name]) for name in self.fields]


class EditForm(JobForm):
    @classmethod
    def of(cls, job: TrainingJob, *args: Any) -> EditForm:
        return cls(*args, initial={name: getattr(job, name) for name in OF_ANY_JOB})


def initial_from(job: TrainingJob, what: str = "copy") -> dict[str, Any]:
    """What the form of a clone or a fork starts with."""
    start = {
        "job_name": f"{job.job_name[: NAME_LENGTH - len(what) - 3]} ({what})",
        "description": job.description,
        "priority": job.priority,
        "pool": job.pool,
        "tags": job.tags,
        "team": job.team_id,
    }
    return start | {PREFIX + name: value for name, value in job.config.items()}


def initial_of(query: Mapping[str, str]) -> dict[str, Any]:
    """What an address fills in: ?job_name=mine&config.dataset=north&config.samples=5000."""
    given = {name: value[:MOST_CHARACTERS] for name, value in query.items() if name.startswith(PREFIX)}
    name = {"job_name": query["job_name"][:NAME_LENGTH]} if "job_name" in query else {}
    return name | {name: _value(text) for name, text in given.items()}


def _value(text: str) -> Any:
    """Lists, such as receivers, come as JSON."""
    if not text.startswith("["):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
