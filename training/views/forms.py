"""Forms made from a recipe's schema: the page for a new job and the admin's add page use the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib.auth.models import Group

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from heimdall.site.env import LABEL, LABEL_RULE
from training.models import POOL_LENGTH, Checkpoint, Subscription, TrainingJob
from training.notifications import TOPICS
from training.services.forks import TRAINING, WEIGHTS
from training.services.verbs import DESCRIPTION_LENGTH, NAME_LENGTH, clean_tags

PREFIX = "config."
OF_ANY_JOB = ("job_name", "description", "priority", "pool", "tags")
SCOPES = (
    ("of_own", "My own jobs"),
    ("of_watched", "Jobs that I watch"),
    ("of_team", "All jobs of my teams"),
)
_JOB_GROUP = "Job"
_OTHER_GROUP = "More settings"


@dataclass(frozen=True)
class Shown:
    """A field as a template shows it."""

    bound: forms.BoundField

    @property
    def wide(self) -> bool:
        return isinstance(self.bound.field.widget, forms.Textarea) or self.bound.name in {"job_name", "carry"}

    @property
    def tick(self) -> bool:
        return isinstance(self.bound.field, forms.BooleanField)


class TagsField(forms.CharField):
    """Tags as people type them, with spaces or commas in between; a list of tags for everybody else."""

    def __init__(self, **options: Any):
        usual = {
            "label": "Tags",
            "required": False,
            "max_length": 1000,
            "help_text": "What the job is found by, such as: baseline night-2. Letters, digits and . _ : / + -",
        }
        super().__init__(**(usual | options))

    def prepare_value(self, value: Any) -> Any:
        return " ".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        text = " ".join(value) if isinstance(value, list | tuple) else super().to_python(value)
        return text.replace(",", " ").lower().split()

    def run_validators(self, value: Any) -> None:
        try:
            clean_tags(value)
        except InvalidInput as error:
            raise forms.ValidationError(error.fields["tags"]) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial or "") != self.to_python(data or "")


class JobForm(forms.Form):
    """The fields that describe any job."""

    job_name = forms.CharField(
        label="Name", max_length=NAME_LENGTH, help_text="What people call the job.", strip=True
    )
    description = forms.CharField(
        label="Notes",
        required=False,
        max_length=DESCRIPTION_LENGTH,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="For people; it changes nothing.",
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
        rf"^{LABEL.pattern}$",
        label="Pool",
        required=False,
        max_length=POOL_LENGTH,
        error_messages={"invalid": f"This is no name of a pool; {LABEL_RULE}"},
        help_text="Only nodes of this pool take it. Empty: any node.",
    )

    @property
    def shown(self) -> list[Shown]:
        return [Shown(self[name]) for name in self.fields]

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
        teams = Group.objects.all() if user.is_superuser else user.groups.all()
        if teams.exists():
            self.fields["team"] = forms.ModelChoiceField(
                teams,
                required=False,
                label="Team",
                empty_label="none",
                help_text="Its members may see, pause, resume and cancel it.",
            )
        for name, schema in self._properties.items():
            self.fields[PREFIX + name] = _field(name, schema)

    @property
    def groups(self) -> list[tuple[str, list[Shown]]]:
        found: dict[str, list[Shown]] = {_JOB_GROUP: []}
        for name in self.fields:
            schema = self._properties.get(name.removeprefix(PREFIX), {}) if name.startswith(PREFIX) else {}
            group = schema.get("group", _OTHER_GROUP) if name.startswith(PREFIX) else _JOB_GROUP
            found.setdefault(group, []).append(Shown(self[name]))
        return list(found.items())

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
            if name.startswith(PREFIX) and value is not None
        }

    def submission(self) -> dict[str, Any]:
        """The arguments of services.submit, without who and which parent."""
        job = {name: self.cleaned_data.get(name) for name in OF_ANY_JOB}
        return job | {
            "team": self.cleaned_data.get("team"),
            "recipe": self.recipe.name,
            "config": self.config,
        }


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
            label="What is carried over",
            help_text="Everything: weights, optimizer, schedule and generators; batch size, seed, optimizer, "
            "precision and validation part then stay as they are.",
        )
        self.fields = {"carry": carry, **self.fields}

    def submission(self) -> dict[str, Any]:
        """The arguments of services.fork, without who and which job."""
        given = super().submission()
        del given["recipe"]
        return given | {"carry": self.cleaned_data["carry"]}


class ExtendForm(forms.Form):
    epochs = forms.IntegerField(
        label="How many epochs more",
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


def initial_of(query: Mapping[str, str]) -> dict[str, str]:
    """What an address fills in: ?config.dataset=north&config.samples=5000."""
    return {name: value[:1000] for name, value in query.items() if name.startswith(PREFIX)}


def config_groups(job: TrainingJob) -> list[tuple[str, list[dict[str, Any]]]]:
    """The job's settings by group, each with its default; a recipe that is gone leaves the bare values."""
    try:
        properties = registry.schema(job.recipe)["properties"]
    except (InvalidInput, registry.BadRecipe):
        properties = {}
    found: dict[str, list[dict[str, Any]]] = {}
    known = [name for name in properties if name in job.config]
    for name in [*known, *sorted(job.config.keys() - properties)]:
        schema, value = properties.get(name, {}), job.config[name]
        found.setdefault(schema.get("group", _OTHER_GROUP), []).append(
            {
                "name": name,
                "title": schema.get("title", name),
                "help": schema.get("description", ""),
                "value": _as_text(value),
                "default": _as_text(schema.get("default")),
                "changed": "default" in schema and schema["default"] != value,
            }
        )
    return list(found.items())


def _field(name: str, schema: dict[str, Any]) -> forms.Field:
    common: dict[str, Any] = {
        "label": schema.get("title", name),
        "help_text": schema.get("description", ""),
        "initial": schema.get("default"),
        "required": "default" not in schema,
    }
    if "enum" in schema and all(isinstance(choice, str) for choice in schema["enum"]):
        return forms.ChoiceField(choices=[(choice, choice) for choice in schema["enum"]], **common)
    match schema.get("type"):
        case "integer":
            return forms.IntegerField(
                min_value=schema.get("minimum"), max_value=schema.get("maximum"), **common
            )
        case "number":
            bounds = {"min_value": schema.get("minimum"), "max_value": schema.get("maximum")}
            return forms.FloatField(widget=forms.NumberInput(attrs={"step": "any"}), **bounds, **common)
        case "boolean":
            return forms.BooleanField(**(common | {"required": False}))
        case "string":
            return forms.CharField(max_length=schema.get("maxLength", 1000), strip=False, **common)
    return forms.JSONField(widget=forms.Textarea(attrs={"class": "json", "rows": 2}), **common)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return "; ".join(" ".join(map(str, item.values())) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


class SubscriptionForm(forms.Form):
    """Where somebody is told, of what, and of which jobs. A team's is told of the team's jobs."""

    def __init__(self, via: str, team: Group | None, *args: Any, **options: Any):
        super().__init__(*args, **options)
        if via == Subscription.Via.EMAIL:
            self.fields["target"] = forms.EmailField(label="E-mail address")
        else:
            self.fields["target"] = forms.CharField(
                label="URL",
                max_length=500,
                widget=forms.URLInput(attrs={"placeholder": "https://", "spellcheck": "false"}),
                help_text="Each message is a signed POST to it. Redirects are not followed.",
            )
        self.fields["topics"] = forms.MultipleChoiceField(
            label="When",
            choices=list(TOPICS.items()),
            widget=forms.CheckboxSelectMultiple,
            error_messages={"required": "Choose one at least."},
        )
        if team is None:
            self.fields["scopes"] = forms.MultipleChoiceField(
                label="Of which jobs",
                choices=SCOPES,
                widget=forms.CheckboxSelectMultiple,
                error_messages={"required": "Choose one at least."},
            )

    @classmethod
    def of(cls, subscription: Subscription, *args: Any) -> SubscriptionForm:
        start = {
            "target": subscription.target,
            "topics": subscription.topics or list(TOPICS),
            "scopes": [name for name, _ in SCOPES if getattr(subscription, name)],
        }
        return cls(subscription.via, subscription.team, *args, initial=start)

    @property
    def boxes(self) -> list[forms.BoundField]:
        return [self[name] for name in ("topics", "scopes") if name in self.fields]

    @property
    def wanted(self) -> dict[str, Any]:
        """The arguments of services.subscribe and change_subscription."""
        topics, scopes = self.cleaned_data["topics"], self.cleaned_data.get("scopes")
        chosen = {} if scopes is None else {name: name in scopes for name, _ in SCOPES}
        every = len(topics) == len(TOPICS)
        return {"target": self.cleaned_data["target"], "topics": [] if every else topics, **chosen}

    def refuse(self, error: InvalidInput) -> None:
        for name, messages in error.fields.items():
            for message in messages:
                self.add_error(name if name in self.fields else None, message)
