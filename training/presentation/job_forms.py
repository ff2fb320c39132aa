"""The form of a new job, made from its recipe's schema: the pages and the admin use the same one."""

from __future__ import annotations

from typing import Any

from django import forms

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from heimdall.recipes.config import GenerationConfig, TrainingConfig
from training import fields, policy
from training.presentation.config_groups import OTHER_GROUP
from training.presentation.form_fields import FieldGroup, Shown, TagsField, field_of

PREFIX = "config."
OF_ANY_JOB = ("job_name", "description", "priority", "pool", "tags")
_JOB_GROUP = "Job"
_SELDOM = {"description", "priority", "pool"}
USUAL_SETTINGS = {"epochs", "batch_size", "learning_rate", "seed", "samples"}
SHARED_FIELDS = {*TrainingConfig.model_fields, *GenerationConfig.model_fields}


class JobForm(forms.Form):
    """The fields that describe any job."""

    job_name = forms.CharField(
        label="Name", max_length=fields.NAME_LENGTH, help_text="The name of the job.", strip=True
    )
    description = forms.CharField(
        label="Notes",
        required=False,
        max_length=fields.DESCRIPTION_LENGTH,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Notes for people; they have no effect.",
    )
    tags = TagsField()
    priority = forms.IntegerField(
        label="Priority",
        min_value=-100,
        max_value=100,
        initial=0,
        help_text="From -100 to 100. Higher goes first, and may preempt a running job of lower priority.",
    )

    pool = forms.RegexField(
        rf"^{fields.POOL.pattern}$",
        label="Pool",
        required=False,
        max_length=fields.POOL_LENGTH,
        error_messages={"invalid": f"This is not a name of a pool; {fields.POOL_RULE}"},
        help_text="Only nodes of this pool take it. Empty: any node.",
    )

    @property
    def shown(self) -> list[Shown]:
        return [Shown(self[name]) for name in self.fields]

    def offer_teams(self, user: Any) -> None:
        """A field for the team, where this user has one to choose."""
        teams = policy.nameable_teams(user)
        if teams.exists():
            self.fields["team"] = forms.ModelChoiceField(
                teams,
                required=False,
                label="Team",
                empty_label="none",
                help_text="Its members may see, pause, resume and cancel it.",
            )

    def refuse(self, error: InvalidInput) -> None:
        """Put the services' refusal beside the fields it names."""
        for name, messages in error.fields.items():
            field = next((known for known in (name, PREFIX + name) if known in self.fields), None)
            for message in messages:
                self.add_error(field, message)


class NewJobForm(JobForm):
    """A new job of one recipe: the job's own fields, then the recipe's, grouped as its schema says."""

    def __init__(self, recipe: registry.RecipeInfo, user: Any, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.recipe = recipe
        self._properties = registry.schema(recipe.name)["properties"]
        self.offer_teams(user)
        for name, schema in self._properties.items():
            self.fields[PREFIX + name] = field_of(name, schema)

    @property
    def groups(self) -> list[FieldGroup]:
        found: dict[str, FieldGroup] = {}
        for name in self.fields:
            title = self._group_of(name)
            group = found.setdefault(title, FieldGroup(title, []))
            (group.usual if self._is_usual(name) else group.rest).append(Shown(self[name]))
        return list(found.values())

    def _group_of(self, name: str) -> str:
        if not name.startswith(PREFIX):
            return _JOB_GROUP
        return self._properties[name.removeprefix(PREFIX)].get("group", OTHER_GROUP)

    def _is_usual(self, name: str) -> bool:
        """A recipe's own settings are what it is about; of those that all recipes share few are ever changed."""
        if not name.startswith(PREFIX):
            return name not in _SELDOM
        bare = name.removeprefix(PREFIX)
        return bare in USUAL_SETTINGS or bare not in SHARED_FIELDS

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        unreadable = any(name.startswith(PREFIX) for name in self.errors)
        if not unreadable:
            try:
                registry.validate(self.recipe.name, self.config)
            except InvalidInput as error:
                self.refuse(error)
        return cleaned

    @property
    def config(self) -> dict[str, Any]:
        """What was entered, as the recipe wants it; an empty field takes the recipe's default."""
        return {
            name.removeprefix(PREFIX): value
            for name, value in self.cleaned_data.items()
            if name.startswith(PREFIX) and value is not None and value != ""
        }

    def submission(self) -> dict[str, Any]:
        """The arguments of services.submit, without who and which parent."""
        job = {name: self.cleaned_data.get(name) for name in OF_ANY_JOB}
        return job | {
            "team": self.cleaned_data.get("team"),
            "recipe": self.recipe.name,
            "config": self.config,
        }
