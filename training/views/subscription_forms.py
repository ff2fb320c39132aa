"""What people fill in to be notified."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import Group

from heimdall.errors import InvalidInput
from training.models import Subscription
from training.notifications import FORMATS, HEIMDALL, TOPICS

SCOPES = (
    ("of_own", "My own jobs"),
    ("of_watched", "Jobs that I watch"),
    ("of_team", "All jobs of my teams"),
)


class SubscriptionForm(forms.Form):
    """Where somebody is notified, of what, and of which jobs. A team's covers the team's jobs."""

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
            self.fields["format"] = forms.ChoiceField(
                label="Written for", choices=list(FORMATS.items()), required=False, initial=HEIMDALL
            )
        self.fields["topics"] = forms.MultipleChoiceField(
            label="When",
            choices=list(TOPICS.items()),
            widget=forms.CheckboxSelectMultiple,
            error_messages={"required": "Choose at least one."},
        )
        if team is None:
            self.fields["scopes"] = forms.MultipleChoiceField(
                label="Which jobs",
                choices=SCOPES,
                widget=forms.CheckboxSelectMultiple,
                error_messages={"required": "Choose at least one."},
            )

    @classmethod
    def of(cls, subscription: Subscription, *args: Any) -> SubscriptionForm:
        start = {
            "target": subscription.target,
            "format": subscription.format,
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
        chosen: dict[str, Any] = {} if scopes is None else {name: name in scopes for name, _ in SCOPES}
        every = len(topics) == len(TOPICS)
        if form := self.cleaned_data.get("format"):
            chosen["format"] = form
        return {"target": self.cleaned_data["target"], "topics": [] if every else topics, **chosen}

    def refuse(self, error: InvalidInput) -> None:
        for name, messages in error.fields.items():
            for message in messages:
                self.add_error(name if name in self.fields else None, message)
