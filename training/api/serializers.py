"""What the API takes and gives. Input is checked here for its form; what it means is checked by the services.

The output classes describe the answers for the schema. Answers are made by queries, as plain dicts: a list of
jobs never passes through a serializer.
"""

from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from training import fields
from training.lifecycle import USER_VERBS, Answer, JobType, Status, Stop, StopAt
from training.models import Checkpoint
from training.placement import FARTHEST_AHEAD, REASON_CODES
from training.queries import EVIDENCE, PROMISES
from training.queries.job_list import COUNT_LIMIT
from training.services.saved_views import QUERY_LENGTH

NAME = RegexValidator(rf"\A{fields.NAME_PATTERN}\Z", fields.NAME_RULE)
POOL = RegexValidator(rf"\A(?:{fields.POOL.pattern})?\Z", f"This is not a name of a pool; {fields.POOL_RULE}")
TEXT_PATTERN = f"^{fields.TEXT_PATTERN}$"
TEXT = RegexValidator(rf"\A{fields.TEXT_PATTERN}\Z", fields.TEXT_RULE)


class Text(serializers.CharField):
    """A string, and nothing that could be turned into one."""

    def __init__(self, **options: Any):
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Give a text.")
        return super().to_internal_value(data)


@extend_schema_field({"type": "string", "maxLength": fields.DESCRIPTION_LENGTH, "pattern": TEXT_PATTERN})
class Description(Text):
    """A text that may be empty and have several lines."""

    def __init__(self, **options: Any):
        super().__init__(max_length=fields.DESCRIPTION_LENGTH, allow_blank=True, validators=[TEXT], **options)


class WholeNumber(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, float) and data.is_integer():
            data = int(data)  # JSON knows no difference between 1 and 1.0
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("Give a whole number.")
        return super().to_internal_value(data)


class Boolean(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Give true or false.")
        return data


class JsonObject(serializers.DictField):
    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Give an object of fields and values.")
        return data


class Input(serializers.Serializer):
    """A field that is not known is refused, so that a typing mistake is never taken for a default."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError({"body": ["Give an object of fields and values."]})
        unknown = {
            name[:100]: [f"There is no field {name[:100]}."] for name in data if name not in self.fields
        }
        if unknown:
            raise serializers.ValidationError(unknown)
        return super().to_internal_value(data)


def name_field(*, help_text: str = "The name of the job.", **options: Any) -> Text:
    return Text(max_length=fields.NAME_LENGTH, validators=[NAME], help_text=help_text, **options)


def code_field() -> Text:
    digest = RegexValidator(r"\A[0-9a-f]{64}\Z", "Give the digest that the upload of the code answered.")
    return Text(
        max_length=64, required=False, validators=[digest], help_text="The digest of the program's code."
    )


def query_field(**options: Any) -> Text:
    """Which jobs, as the address of their list says it; training/queries/filters.py reads it."""
    return Text(max_length=QUERY_LENGTH, allow_blank=True, validators=[TEXT], **options)


def priority_field(**options: Any) -> WholeNumber:
    rule = fields.PRIORITY_RULE
    return WholeNumber(
        min_value=fields.LOWEST_PRIORITY,
        max_value=fields.HIGHEST_PRIORITY,
        error_messages={"min_value": rule, "max_value": rule},
        help_text="Higher goes first.",
        **options,
    )


def team_field() -> Text:
    return Text(
        max_length=150,
        required=False,
        allow_null=True,
        help_text="A group of yours whose members may help run the job.",
    )


def tags_field() -> serializers.ListField:
    pattern = RegexValidator(rf"\A{fields.TAG_PATTERN}\Z", f"This is not a tag; {fields.TAG_RULE}")
    tag = Text(max_length=fields.TAG_LENGTH, validators=[pattern])
    return serializers.ListField(
        child=tag, max_length=fields.MAX_TAGS, required=False, help_text="Words to find the job by."
    )


def pool_field(**options: Any) -> Text:
    return Text(
        max_length=fields.POOL_LENGTH,
        allow_blank=True,
        validators=[POOL],
        help_text="Only nodes of this pool take it; empty: any node.",
        **options,
    )


class NewJob(Input):
    job_name = name_field()
    recipe = Text(max_length=200, required=False, help_text="One of the names in /v1/training/recipes.")
    program = JsonObject(required=False, help_text="What is run in the place of a recipe.")
    code = code_field()
    secrets = serializers.DictField(
        child=Text(max_length=4_000, min_length=6, validators=[TEXT]),
        required=False,
        help_text="Variables of the program that are kept encrypted and shown nowhere.",
    )
    config = JsonObject(required=False, help_text="Fields of the recipe; those left out take their defaults.")
    description = Description(required=False)
    priority = priority_field(required=False)
    pool = pool_field(required=False)
    tags = tags_field()
    team = team_field()


class JobChange(Input):
    job_name = name_field(required=False)
    description = Description(required=False)
    priority = priority_field(required=False)
    pool = pool_field(required=False)
    tags = tags_field()


class PauseOptions(Input):
    at = serializers.ChoiceField(
        choices=[StopAt.EPOCH.value, StopAt.STEP.value],
        default=StopAt.EPOCH.value,
        help_text="At the end of the epoch, or after the step under way.",
    )


class ResumeOptions(Input):
    checkpoint = WholeNumber(
        min_value=1,
        required=False,
        help_text="An older checkpoint to go back to: what was trained since is given up.",
    )


class NoOptions(Input):
    """A verb that takes no options."""


class CheckpointChange(Input):
    pinned = Boolean(required=False, help_text="A pinned checkpoint is kept for as long as its job.")


# What the answers look like.


def _whole(**options: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=0, **options)


def _number(**options: Any) -> serializers.FloatField:
    return serializers.FloatField(allow_null=True, **options)


def _time(**options: Any) -> serializers.DateTimeField:
    return serializers.DateTimeField(**options)


def _one_of(members: Any, **options: Any) -> serializers.ChoiceField:
    return serializers.ChoiceField(choices=[str(member) for member in members if str(member)], **options)


def status_field() -> serializers.ChoiceField:
    return _one_of(Status)


@extend_schema_field({"type": "object", "additionalProperties": {}})
class FreeForm(serializers.JSONField):
    """An object whose names are the recipe's own."""


@extend_schema_serializer(component_name="Stop")
class StopShape(serializers.Serializer):
    kind = _one_of(Stop)
    at = _one_of(StopAt)


class EpochAndStep(serializers.Serializer):
    epoch = _whole()
    step = _whole()


@extend_schema_serializer(component_name="Checkpoint")
class CheckpointShape(serializers.Serializer):
    id = _whole()
    job = _whole()
    kinds = serializers.ListField(child=_one_of(Checkpoint.Kind))
    epoch = _whole(help_text="Finished epochs.")
    step = _whole(help_text="Finished steps of the whole job.")
    attempt = _whole()
    size = _whole(help_text="Bytes of the file.")
    digest = serializers.CharField(help_text="SHA-256 over the state and nothing else.")
    header_sha256 = serializers.CharField(
        allow_blank=True,
        help_text="SHA-256 of the header, which names the whole file; empty for files from before it was kept.",
    )
    val_loss = _number()
    pinned = serializers.BooleanField()
    quarantined_at = _time(allow_null=True)
    quarantine_reason = serializers.CharField(allow_blank=True)
    created_at = _time()


@extend_schema_serializer(component_name="Waiting")
class WaitingShape(serializers.Serializer):
    code = serializers.ChoiceField(choices=REASON_CODES)
    message = serializers.CharField()
    ahead = _whole(allow_null=True, help_text=f"Jobs that go first; null: more than {FARTHEST_AHEAD}.")


@extend_schema_serializer(component_name="Rank")
class RankShape(serializers.Serializer):
    rank = _whole()
    node = serializers.CharField()
    slot = _whole()
    device = serializers.CharField(allow_blank=True)
    device_name = serializers.CharField(allow_blank=True)
    pid = _whole(allow_null=True, help_text="Of its process; null until it has started.")


@extend_schema_serializer(component_name="Job")
class JobShape(serializers.Serializer):
    id = _whole()
    job_name = serializers.CharField()
    description = serializers.CharField()
    job_type = _one_of(JobType)
    recipe = serializers.CharField(allow_null=True, help_text="Null where a program is run.")
    program = FreeForm(allow_null=True, help_text="What is run in the place of a recipe.")
    code = serializers.CharField(allow_null=True, help_text="The digest of the program's code.")
    evidence = _one_of(EVIDENCE, help_text="What is known of this job's own training: see its certificate.")
    promise = _one_of(PROMISES, help_text="What a pause is worth, as far as it was shown.")
    owner = serializers.CharField()
    team = serializers.CharField(allow_null=True)
    parent = _whole(allow_null=True)
    origin = FreeForm(
        allow_null=True,
        help_text="The parent's checkpoint that it began from, and what was carried over. Null: from step 0.",
    )
    tags = serializers.ListField(child=serializers.CharField())
    dataset = serializers.CharField(
        allow_null=True, help_text="The dataset that it makes (synthetic data) or reads (training)."
    )
    priority = serializers.IntegerField()
    pool = serializers.CharField(allow_blank=True, help_text="Only nodes of this pool take it; empty: any.")
    status = _one_of(Status)
    stop = StopShape(allow_null=True)
    headline = serializers.CharField(help_text="What is going on, in a few words.")
    waiting = WaitingShape(allow_null=True, help_text="Why a queued job is not running yet.")
    phase = serializers.CharField(help_text="What the trainer does now; empty when it does nothing.")
    attempt = _whole()
    ranks = _whole(help_text="Processes that the newest attempt trains with: one a device.")
    rank_devices = RankShape(many=True, help_text="Where each of several ranks computes; empty for one.")
    config = FreeForm(help_text="Complete, with every default.")
    current_epoch = _whole(help_text="Finished epochs.")
    total_epochs = _whole(help_text="0 for synthetic data.")
    current_step = _whole(help_text="Finished steps of the whole job.")
    total_steps = _whole(allow_null=True)
    progress_percent = serializers.FloatField(min_value=0, max_value=100)
    eta_seconds = _number()
    train_loss = _number()
    val_loss = _number()
    metrics = FreeForm(help_text="The newest epoch's values of the recipe's own.")
    learning_rate = _number()
    best_epoch = _whole(allow_null=True)
    best_val_loss = _number()
    error_code = serializers.CharField()
    error_message = serializers.CharField()
    checkpoint = CheckpointShape(allow_null=True, help_text="Where a resume starts.")
    environment = FreeForm(help_text="Settled when the job first ran.")
    approximate = serializers.ListField(
        child=serializers.CharField(), help_text="Why a resume was not exact."
    )
    event_seq = _whole()
    heard_at = _time(allow_null=True, help_text="When an external job reported last.")
    created_at = _time()
    queued_at = _time()
    started_at = _time(allow_null=True)
    completed_at = _time(allow_null=True)
    updated_at = _time()
    verbs = serializers.ListField(child=_one_of(USER_VERBS), help_text="What you may ask of the job now.")


@extend_schema_serializer(component_name="TriedJob")
class TriedJobShape(serializers.Serializer):
    job_type = _one_of(JobType)
    config = FreeForm(help_text="Complete, with every default.")
    total_epochs = _whole(help_text="0 where there are none.")
    memory_bytes = _whole(allow_null=True, help_text="What its recipe estimates. Null: it does not.")
    waiting = WaitingShape(allow_null=True, help_text="Whether a node would take it at once, or why not.")
    free_slots = serializers.DictField(
        child=_whole(),
        help_text="By the name of each node that may take it: its slots that are free for it now.",
    )
    starts_in_seconds = serializers.FloatField(
        allow_null=True, help_text="About when, by the pace of the jobs that run. Null: that does not tell."
    )


@extend_schema_serializer(component_name="JobAndAnswer")
class VerbAnswer(JobShape):
    answer = _one_of(Answer)
    message = serializers.CharField(help_text="What happened, or when it will.")
    task_id = serializers.CharField(allow_null=True)
    resumes_from = EpochAndStep(allow_null=True)


@extend_schema_serializer(component_name="Event")
class EventShape(serializers.Serializer):
    seq = _whole()
    job = _whole()
    kind = serializers.CharField()
    message = serializers.CharField()
    actor = serializers.CharField()
    attempt = _whole()
    status = _one_of(Status)
    stop = _one_of(Stop, allow_null=True)
    step = _whole()
    epoch = _whole()
    data = FreeForm()
    created_at = _time()


@extend_schema_serializer(component_name="Metric")
class MetricShape(serializers.Serializer):
    """Beside these, the values that the recipe records, such as loss, learning_rate and grad_norm."""

    step = _whole()
    epoch = _whole()


@extend_schema_serializer(component_name="Log")
class LogShape(serializers.Serializer):
    id = _whole()
    attempt = _whole()
    text = serializers.CharField()
    created_at = _time()


@extend_schema_serializer(component_name="Recipe")
class RecipeShape(serializers.Serializer):
    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    job_type = _one_of(JobType)
    schema = FreeForm(help_text="The JSON schema of the config.")


class ErrorDetail(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    fields = serializers.DictField(child=serializers.ListField(child=serializers.CharField()), required=False)
    status = _one_of(Status, required=False, allow_null=True)
    stop = StopShape(required=False, allow_null=True)
    verbs = serializers.ListField(child=_one_of(USER_VERBS), required=False)


class Error(serializers.Serializer):
    error = ErrorDetail()


def page_of(shape: type[serializers.Serializer]) -> type[serializers.Serializer]:
    """The page shape around one kind of result."""
    name = shape.__name__.removesuffix("Shape") + "Page"
    fields = {
        "count": _whole(),
        "next": serializers.CharField(allow_null=True),
        "previous": serializers.CharField(allow_null=True),
        "results": shape(many=True),
    }
    return type(name, (serializers.Serializer,), fields)


class JobPage(page_of(JobShape)):  # type: ignore[misc]
    count = _whole(help_text=f"Exact up to {COUNT_LIMIT}; beyond that `count_is_exact` is false.")
    count_is_exact = serializers.BooleanField(
        required=False, help_text="False where `count` says how many there are at least, else left out."
    )


class SparseJobPage(JobPage):
    results = serializers.ListField(
        child=serializers.DictField(), help_text="Of each job what `fields` names."
    )
