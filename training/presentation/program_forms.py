"""The form of a job that runs a program: its code as a file, the command, and what it finds around it."""

from __future__ import annotations

import io
import shlex
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import IO, Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from heimdall import code_archive
from heimdall.attached.program import UV, Program
from heimdall.errors import InvalidInput
from training import placement
from training.models import TrainingJob
from training.presentation.form_fields import FieldGroup, JsonField, Shown
from training.presentation.job_forms import OF_ANY_JOB, JobForm

ENDINGS = (".py", ".tar.gz", ".tgz")
HOST = "the worker's own Python"
_KINDS = (("", "as the file looks"), ("script", "script"), ("command", "command"))
_HOOKS = (("", "none"), ("hugging_face", "Hugging Face Trainer"), ("lightning", "Lightning Trainer"))
_SIGNALS = (("TERM", "SIGTERM"), ("USR1", "SIGUSR1"))
_OF_COMMANDS = ("pause_signal", "grace_seconds", "checkpoint_folder", "resume_arguments", "metric_patterns")
_GROUPS = (
    (
        "Program",
        ("code", "command", "directory", "environment", "kind", "hook"),
        ("code", "command", "environment"),
    ),
    ("What it is given", ("config", "variables", "secrets"), ("config",)),
    ("Commands that know nothing of Heimdall", _OF_COMMANDS, ()),
)
_USUAL = ("job_name", "tags", "team", "carry")


class SecretText(forms.Textarea):
    """What is entered goes to the server, and never comes back with the form."""

    def format_value(self, value: Any) -> str:
        return ""


class ProgramForm(JobForm):
    """A new job that runs a program; with `parent`, one like that job, whose code it has unless another is given."""

    code = forms.FileField(
        label="Code",
        required=False,
        widget=forms.ClearableFileInput(attrs={"accept": ",".join(ENDINGS)}),
    )
    command = forms.CharField(
        label="Command",
        required=False,
        max_length=10_000,
        widget=forms.TextInput(attrs={"placeholder": "python train.py --lr 3e-4", "spellcheck": "false"}),
        help_text="What is started, in words as a shell takes them apart; no shell runs it. Empty: the file above.",
    )
    directory = forms.CharField(
        label="Folder", required=False, max_length=500, help_text="Where in the code it is started."
    )
    environment = forms.ChoiceField(label="Environment", required=False, help_text="Which Python it runs in.")
    kind = forms.ChoiceField(
        label="Kind",
        required=False,
        choices=_KINDS,
        help_text="A script calls heimdall.attach(); a command is any other program.",
    )
    hook = forms.ChoiceField(
        label="Attach by itself",
        required=False,
        choices=_HOOKS,
        help_text="For scripts of these frameworks that do not mention Heimdall.",
    )
    config = JsonField(
        label="Settings",
        required=False,
        initial=dict,
        widget=forms.Textarea(attrs={"class": "json", "rows": 3}),
        help_text='JSON that a script reads as job.config, such as {"epochs": 10}.',
        error_messages={"invalid": 'This is no JSON: names stand in double quotes, as in {"epochs": 10}.'},
    )
    variables = forms.CharField(
        label="Variables",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="Environment variables, one NAME=VALUE a line. Everybody who sees the job sees them.",
    )
    secrets = forms.CharField(
        label="Secrets",
        required=False,
        widget=SecretText(attrs={"rows": 2, "spellcheck": "false", "autocomplete": "off"}),
    )
    pause_signal = forms.ChoiceField(
        label="Pause signal", choices=_SIGNALS, required=False, help_text="What a pause sends."
    )
    grace_seconds = forms.FloatField(
        label="Grace",
        required=False,
        initial=30.0,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="Seconds that it may take to save and leave.",
    )
    checkpoint_folder = forms.CharField(
        label="Checkpoint folder",
        required=False,
        max_length=500,
        help_text="Where it keeps its own checkpoints: kept between attempts.",
    )
    resume_arguments = forms.CharField(
        label="Resume arguments",
        required=False,
        max_length=10_000,
        help_text="Added where it goes on, such as --resume.",
    )
    metric_patterns = forms.CharField(
        label="Metrics in its log",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="Regular expressions with named groups, one a line: loss=(?P<loss>[0-9.e+-]+)",
    )

    def __init__(self, user: Any, *args: Any, parent: TrainingJob | None = None, **options: Any):
        super().__init__(*args, **options)
        self.parent = parent
        self.offer_teams(user)
        names = [*placement.environments_known(), UV]
        self.fields["environment"].choices = [("", HOST), *((name, name) for name in names)]  # type: ignore[attr-defined]
        self.fields["code"].help_text = _about_code(parent)
        kept = bool(parent and parent.secrets and parent.owner_id == user.pk)
        self.fields["secrets"].help_text = _about_secrets(kept)

    @property
    def groups(self) -> list[FieldGroup]:
        of_program = {name for _, names, _ in _GROUPS for name in names}
        job = [name for name in self.fields if name not in of_program]
        groups: list[tuple[str, Collection[str], Collection[str]]] = [("Job", job, _USUAL), *_GROUPS]
        return [self._group(*group) for group in groups]

    def _group(self, title: str, names: Iterable[str], usual: Collection[str]) -> FieldGroup:
        shown = {name: Shown(self[name]) for name in names}
        is_open = [one for name, one in shown.items() if name in usual]
        return FieldGroup(title, is_open, [one for name, one in shown.items() if name not in usual])

    def refuse(self, error: InvalidInput) -> None:
        """What is refused of the program stands beside its field; what is not known here belongs to the settings."""
        for name, messages in error.fields.items():
            plain = name.removeprefix("program.")
            field = plain if plain in self.fields else None if "." in name or name == "program" else "config"
            for message in messages:
                self.add_error(field, message)

    def clean_code(self) -> UploadedFile | None:
        upload = self.cleaned_data["code"]
        if upload is None and self.parent is None:
            raise forms.ValidationError("Choose a file: a script, or a folder as .tar.gz.")
        if upload is not None and not upload.name.endswith(ENDINGS):
            raise forms.ValidationError(f"{upload.name[:60]} is neither a .py file nor a .tar.gz.")
        return upload

    def clean_command(self) -> list[str]:
        return _words_of(self.cleaned_data["command"])

    def clean_resume_arguments(self) -> list[str]:
        return _words_of(self.cleaned_data["resume_arguments"])

    def clean_variables(self) -> dict[str, str]:
        return _pairs_of(self.cleaned_data["variables"])

    def clean_secrets(self) -> dict[str, str]:
        return _pairs_of(self.cleaned_data["secrets"])

    def clean_config(self) -> dict[str, Any]:
        config = self.cleaned_data["config"]
        if not isinstance(config or {}, dict):
            raise forms.ValidationError('Write a JSON object, such as {"epochs": 10}.')
        return config or {}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        upload = cleaned.get("code")
        if "command" in cleaned and not cleaned["command"]:
            if upload is not None and upload.name.endswith(".py"):
                cleaned["command"] = ["python", PurePosixPath(upload.name).name]
            elif "code" in cleaned:
                self.add_error("command", "Say what is to be started, such as python train.py.")
        return cleaned

    def archive(self) -> IO[bytes] | None:
        """The code that came along, as services.keep_code takes it."""
        upload = self.cleaned_data["code"]
        if upload is None or not upload.name.endswith(".py"):
            return upload
        return io.BytesIO(code_archive.of_one_file(PurePosixPath(upload.name).name, upload.read()))

    def submission(self) -> dict[str, Any]:
        """The arguments of services.submit, without who, which parent and which code."""
        given = self.cleaned_data
        secrets = given["secrets"]
        names = sorted(secrets) or (self.parent.program["secrets"] if self.parent else [])
        plain = {
            name: given[name]
            for name in Program.model_fields
            if name not in {"secrets"} and given.get(name) not in (None, "")
        }
        if (
            plain.get("kind") == "script"
        ):  # the form fills in a command's defaults; what was chosen is refused
            plain = {name: value for name, value in plain.items() if not _is_default_of_commands(name, value)}
        plain["metric_patterns"] = given["metric_patterns"].splitlines()
        job = {name: given.get(name) for name in OF_ANY_JOB} | {"team": given.get("team")}
        program = plain | {"secrets": names}
        return job | {"program": program, "config": given["config"], "secrets": secrets or None}


def _is_default_of_commands(name: str, value: Any) -> bool:
    return name in _OF_COMMANDS and value in (
        Program.model_fields[name].get_default(call_default_factory=True),
        "",
        [],
    )


def initial_of_program(job: TrainingJob) -> dict[str, Any]:
    """What the form starts with for a job like this one."""
    program = job.program
    return {
        **{name: value for name, value in program.items() if name != "secrets"},
        "command": shlex.join(program["command"]),
        "resume_arguments": shlex.join(program["resume_arguments"]),
        "metric_patterns": "\n".join(program["metric_patterns"]),
        "variables": "\n".join(f"{name}={value}" for name, value in program["variables"].items()),
        "config": job.config,
    }


def _about_code(parent: TrainingJob | None) -> str:
    what = f"A .py file, or a folder as .tar.gz of at most {settings.CODE_MB} MB, without its data."
    return f"{what} Empty: the code of job {parent.pk}." if parent else what


def _about_secrets(kept: bool) -> str:
    what = "As variables, one NAME=VALUE a line, but kept encrypted, shown nowhere, and hidden in the log."
    return f"{what} Empty: those of the other job." if kept else what


def _words_of(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise forms.ValidationError(f"A shell could not read this: {error}.") from error


def _pairs_of(text: str) -> dict[str, str]:
    """NAME=VALUE, one a line. What is refused is named by its line: it may be a secret."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, sign, value = line.strip().partition("=")
        if not sign or not name.strip():
            raise forms.ValidationError(f"Line {number} is not of the form NAME=VALUE.")
        found[name.strip()] = value
    return found
