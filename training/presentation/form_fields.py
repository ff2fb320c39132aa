"""Fields of forms: those that people know from everywhere in Heimdall, and those made from a recipe's schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput

from heimdall.errors import InvalidInput
from training.fields import clean_tags


@dataclass(frozen=True)
class Shown:
    """A field as a template shows it."""

    bound: forms.BoundField

    @property
    def wide(self) -> bool:
        return isinstance(self.bound.field.widget, forms.Textarea) or self.bound.name in {"job_name", "carry"}

    @property
    def is_changed(self) -> bool:
        """Whether it holds something else than what the form would start with."""
        return self.bound.field.has_changed(self._start, self.bound.value())

    @property
    def default(self) -> str:
        """As the browser has it, so that it can count changes while somebody types."""
        value = self.bound.field.prepare_value(self._start)
        return ("1" if value else "") if self.tick else "" if value is None else str(value)

    @property
    def _start(self) -> Any:
        """What the field itself starts with; a form that is filled in from another job starts with something else."""
        initial = self.bound.field.initial
        return initial() if callable(initial) else initial

    @property
    def tick(self) -> bool:
        return isinstance(self.bound.field, forms.BooleanField)


@dataclass(frozen=True)
class FieldGroup:
    """Fields under one heading: those that most people fill in, and the rest, which a page folds away."""

    name: str
    usual: list[Shown]
    rest: list[Shown] = field(default_factory=list)

    @property
    def num_changed(self) -> int:
        """How many of the folded fields hold something else than their default."""
        return sum(shown.is_changed for shown in self.rest)

    @property
    def has_errors(self) -> bool:
        return any(shown.bound.errors for shown in self.rest)

    @property
    def all(self) -> list[Shown]:
        return [*self.usual, *self.rest]


class TagsField(forms.CharField):
    """Tags as people type them, with spaces or commas in between; a list of tags for everybody else."""

    def __init__(self, **options: Any):
        usual = {
            "label": "Tags",
            "required": False,
            "max_length": 1000,
            "help_text": "Words to find the job by, such as: baseline night-2. Letters, digits and . _ : / + -",
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


class JsonField(forms.JSONField):
    """Django's, which takes no notice of what is nested too deep to be read."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except RecursionError as error:
            raise forms.ValidationError("This is nested too deep.", code="invalid") from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except RecursionError:
            return InvalidJSONInput(data)


class NumberOrWordField(forms.CharField):
    """A whole number, or a word in its place; what it may be, the recipe says."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text

    def has_changed(self, initial: Any, data: Any) -> bool:
        return str(initial) != str(data)


def field_of(name: str, schema: dict[str, Any]) -> forms.Field:
    common: dict[str, Any] = {
        "label": schema.get("title", name),
        "help_text": schema.get("description", ""),
        "initial": schema.get("default"),
        "required": "default" not in schema,
    }
    if "enum" in schema and all(isinstance(choice, str) for choice in schema["enum"]):
        return forms.ChoiceField(choices=[(choice, choice) for choice in schema["enum"]], **common)
    if "anyOf" in schema and all(each.get("type") in ("integer", "string") for each in schema["anyOf"]):
        return NumberOrWordField(**common)
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
    return JsonField(widget=forms.Textarea(attrs={"class": "json", "rows": 2}), **common)
