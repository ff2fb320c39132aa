"""The form of a new sweep: what is searched, how, and what the jobs share."""

from __future__ import annotations

from typing import Any

from django import forms

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from training.presentation.form_fields import FieldGroup, JsonField, Shown
from training.presentation.job_forms import JobForm
from training.sweeps.plan import GOALS, MOST_AT_ONCE, MOST_JOBS, MOST_REPEATS, STOPPERS, SUGGESTERS, SweepPlan
from training.sweeps.written import read_written

_SUGGESTERS = {
    "random": "Random",
    "grid": "Grid: every combination of the lists",
    "tpe": "TPE: what was good so far leads",
    "cmaes": "CMA-ES: for numbers alone",
    "qmc": "QMC: evenly spread",
}
_STOPPERS = {
    "none": "Every job trains to its end",
    "asha": "Successive halving: losers rest at an exact pause",
    "hyperband": "Hyperband: halving with several first rungs",
}
_PLAN = (
    "suggester",
    "stopper",
    "metric",
    "goal",
    "jobs",
    "repeats",
    "at_once",
    "first_epochs",
    "eta",
    "seed",
)
_USUAL = ("job_name", "tags", "team", "space", "suggester", "stopper", "jobs", "at_once", "config")


class SweepForm(JobForm):
    """A sweep over the settings of a recipe."""

    space = forms.CharField(
        label="Searched",
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 5, "class": "json", "spellcheck": "false"}),
        help_text="A setting a line: learning_rate = log 1e-4 .. 0.1, dropout = 0 .. 0.5, optimizer = adamw, sgd; "
        "momentum = 0.5 .. 0.99 if optimizer = sgd.",
    )
    suggester = forms.ChoiceField(
        label="What is tried", choices=[(one, _SUGGESTERS[one]) for one in SUGGESTERS]
    )
    stopper = forms.ChoiceField(
        label="Who goes on", choices=[(one, _STOPPERS[one]) for one in STOPPERS], initial="asha"
    )
    jobs = forms.IntegerField(
        label="Combinations",
        min_value=1,
        max_value=MOST_JOBS,
        initial=20,
        help_text="A grid has as many as fit.",
    )
    at_once = forms.IntegerField(
        label="Jobs at once", min_value=1, max_value=MOST_AT_ONCE, initial=4, help_text="Queued or running."
    )
    metric = forms.CharField(
        label="Compared by", max_length=100, initial="val_loss", help_text="A value at the end of an epoch."
    )
    goal = forms.ChoiceField(
        label="Better is", choices=[(one, {"minimize": "lower", "maximize": "higher"}[one]) for one in GOALS]
    )
    repeats = forms.IntegerField(
        label="Seeds of each",
        min_value=1,
        max_value=MOST_REPEATS,
        initial=1,
        help_text="With mean and spread.",
    )
    first_epochs = forms.IntegerField(label="First rung after epochs", min_value=1, initial=1)
    eta = forms.IntegerField(
        label="Of so many one goes on",
        min_value=2,
        max_value=10,
        initial=3,
        help_text="And trains so many times longer.",
    )
    seed = forms.IntegerField(label="Seed of the search", min_value=0, initial=0)
    config = JsonField(
        label="Shared settings",
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "class": "json", "spellcheck": "false"}),
        help_text='Of all jobs, as JSON: {"epochs": 27}. What is not named takes the default of the recipe.',
    )

    def __init__(self, recipe: registry.RecipeInfo, user: Any, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.recipe = recipe
        self.offer_teams(user)

    @property
    def groups(self) -> list[FieldGroup]:
        return [
            self._group("Sweep", ["job_name", "team", "tags", "description", "priority", "pool"]),
            self._group("Search", ["space", *_PLAN]),
            self._group("Settings of its jobs", ["config"]),
        ]

    def _group(self, title: str, names: list[str]) -> FieldGroup:
        there = [name for name in names if name in self.fields]
        usual = [Shown(self[name]) for name in there if name in _USUAL]
        return FieldGroup(title, usual, [Shown(self[name]) for name in there if name not in _USUAL])

    def submission(self) -> dict[str, Any]:
        """The arguments of services.submit_sweep, without who. Raises InvalidInput for a space nobody can read."""
        given = self.cleaned_data
        plan = {name: given[name] for name in _PLAN if given.get(name) is not None}
        if plan["suggester"] == "grid" and plan["jobs"] == SweepPlan().jobs:
            del plan["jobs"]  # as it came: every combination
        return {
            "name": given["job_name"],
            "description": given["description"],
            "tags": given["tags"],
            "priority": given["priority"],
            "pool": given["pool"],
            "team": given.get("team"),
            "recipe": self.recipe.name,
            "space": read_written(given["space"]),
            "plan": plan,
            "config": given["config"] or {},
        }

    def refuse(self, error: InvalidInput) -> None:
        for name, sentences in error.fields.items():
            head, _, rest = name.partition(".")
            field = rest if head == "plan" and rest in self.fields else {"name": "job_name"}.get(head, head)
            for sentence in sentences:
                said = f"{rest}: {sentence}" if rest and field == head else sentence
                self.add_error(field if field in self.fields else None, said)
