"""The fields that recipes share. A recipe's own `Config` adds to them; every door reads the schema.

Nothing here imports torch or Django: the web process reads it.
"""

import copy
from typing import Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from heimdall.recipes.demand import ELASTIC, LOGICAL_RANKS, MAX_DEVICES, device_demand

JobType = Literal["training", "synthetic_data"]

MAX_SHARDS = 100_000
Devices = Annotated[int, Field(ge=1, le=MAX_DEVICES)] | Literal["elastic"]


def in_group(name: str) -> dict[str, Any]:
    """Say under which heading a form shows the field."""
    return {"group": name}


def shared(name: str, default: Any) -> Any:
    """A shared field with another default; all else of it stays: `epochs: int = shared("epochs", 3)`."""
    for base in (TrainingConfig, GenerationConfig):
        if name in base.model_fields:
            field = copy.copy(base.model_fields[name])
            field.default = default
            return field
    raise KeyError(name)


def refuse(field: str, sentence: str) -> NoReturn:
    """Refuse a config from a validator that looks at several fields, and say which field has to change."""
    raise PydanticCustomError("refused", "{sentence}", {"field": field, "sentence": sentence})


def refuse_what_devices_cannot_use(config: "TrainingConfig") -> None:
    """A field that would do nothing beside another one is refused, and named with it."""
    is_elastic = config.devices == ELASTIC
    if not is_elastic and config.logical_ranks != LOGICAL_RANKS:
        refuse(
            "logical_ranks", "logical_ranks is for devices: elastic. Leave it out, or set devices to elastic."
        )
    if config.logical_ranks & (config.logical_ranks - 1):
        refuse("logical_ranks", f"logical_ranks must be a power of two, not {config.logical_ranks}.")
    if is_elastic and config.hosts > 1:
        refuse("hosts", "devices: elastic takes the free devices of one host: leave hosts at 1.")
    if is_elastic and config.strategy != "ddp":
        refuse("strategy", "devices: elastic keeps the whole model on each device: leave strategy at ddp.")
    if is_elastic and config.other_device_count != "refuse":
        refuse(
            "other_device_count",
            "devices: elastic gives the same bits on any number of devices: leave other_device_count at refuse.",
        )
    if config.strategy == "fsdp" and config.hosts > 1:
        refuse("hosts", "strategy: fsdp shares memory of one host: leave hosts at 1, or take ddp.")
    if config.strategy == "fsdp" and config.precision == "fp16":
        refuse("precision", "strategy: fsdp has no loss scaling for fp16: set precision to bf16.")
    if config.strategy == "fsdp" and config.ema_decay:
        refuse(
            "ema_decay", "strategy: fsdp keeps no average of the weights: leave ema_decay at 0, or take ddp."
        )
    if config.strategy == "fsdp" and config.devices == 1 and config.hosts == 1:
        refuse(
            "strategy", "strategy: fsdp shares the weights among devices, and devices is 1: set it higher."
        )


class RecipeConfig(BaseModel):
    """Strict: an unknown field, a number in quotes, true for 1, NaN and infinity are refused."""

    called: ClassVar[str] = "recipe"

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        str_max_length=1000,
    )


class TrainingConfig(RecipeConfig):
    """What every training has in common."""

    epochs: int = Field(
        10,
        ge=1,
        le=100_000,
        title="Epochs",
        description="How many times the training goes through its data.",
        json_schema_extra=in_group("Training"),
    )
    batch_size: int = Field(
        32,
        ge=1,
        le=65_536,
        title="Batch size",
        description="Samples in a batch. A step takes batch size times gradient accumulation samples.",
        json_schema_extra=in_group("Training"),
    )
    drop_last: bool = Field(
        False,
        title="Drop a short last batch",
        description="Leaves out the last batch of an epoch where fewer samples than a batch are left for it.",
        json_schema_extra=in_group("Training"),
    )
    learning_rate: float = Field(
        0.001,
        gt=0,
        le=10,
        title="Learning rate",
        description="The learning rate after the warm-up; the schedule starts from it.",
        json_schema_extra=in_group("Optimization"),
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=10,
        title="Weight decay",
        description="Pulls the weights towards zero at every step; 0 turns it off.",
        json_schema_extra=in_group("Optimization"),
    )
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        "adamw",
        title="Optimizer",
        description="AdamW suits most models; SGD has a momentum of 0.9.",
        json_schema_extra=in_group("Optimization"),
    )
    lr_scheduler: Literal["constant", "cosine"] = Field(
        "cosine",
        title="Learning rate schedule",
        description="Constant stays at the learning rate; cosine falls to zero at the last step.",
        json_schema_extra=in_group("Optimization"),
    )
    warmup_epochs: int = Field(
        0,
        ge=0,
        le=100_000,
        title="Warm-up epochs",
        description="Epochs in which the learning rate rises from zero, step by step; 0 turns it off.",
        json_schema_extra=in_group("Optimization"),
    )
    max_grad_norm: float = Field(
        1.0,
        ge=0,
        le=1_000_000,
        title="Gradient clipping norm",
        description="Longer gradients are scaled down to this norm; 0 turns clipping off.",
        json_schema_extra=in_group("Optimization"),
    )
    grad_accumulation: int = Field(
        1,
        ge=1,
        le=1024,
        title="Gradient accumulation",
        description="Batches whose gradients are averaged for one step.",
        json_schema_extra=in_group("Optimization"),
    )
    early_stop_patience: int = Field(
        0,
        ge=0,
        le=100_000,
        title="Early stopping: patience",
        description="Stop after so many epochs in a row without a better loss; 0 turns it off.",
        json_schema_extra=in_group("Early stopping"),
    )
    early_stop_delta: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        title="Early stopping: minimum improvement",
        description="By how much the validation loss must fall to count as better for the patience.",
        json_schema_extra=in_group("Early stopping"),
    )
    validation_split: float = Field(
        0.1,
        ge=0,
        le=0.9,
        title="Validation split",
        description="Share of the data kept for validation; 0 trains on all of it and goes by the training loss.",
        json_schema_extra=in_group("Data"),
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        title="Seed",
        description="Fixes first weights, order of data and every random draw: equal seeds, equal trainings.",
        json_schema_extra=in_group("Reproducibility"),
    )
    num_workers: int = Field(
        0,
        ge=0,
        le=16,
        title="Loader workers",
        description="Processes that prepare batches; 0: the trainer itself. The samples are the same.",
        json_schema_extra=in_group("Data"),
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        title="Precision",
        description="Arithmetic of the forward pass; fp16 also scales the loss. The weights stay in fp32.",
        json_schema_extra=in_group("Hardware"),
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Weight averaging (EMA) decay",
        description="Keeps a moving average of the weights and validates with it; 0 turns it off.",
        json_schema_extra=in_group("Optimization"),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        title="Device",
        description=(
            "Auto takes a GPU where there is one; cuda waits for one. What was taken first stays the job's device."
        ),
        json_schema_extra=in_group("Hardware"),
    )
    devices: Devices = Field(
        1,
        title="Devices",
        description=(
            "How many devices of one host train together: each has a process of its own, and its share of every "
            "batch. elastic: as many as are free, with the same bits on any number of them."
        ),
        json_schema_extra=in_group("Hardware"),
    )
    hosts: int = Field(
        1,
        ge=1,
        le=64,
        title="Hosts",
        description="How many hosts train together, each with so many devices.",
        json_schema_extra=in_group("Hardware"),
    )
    logical_ranks: int = Field(
        LOGICAL_RANKS,
        ge=1,
        le=64,
        title="Logical ranks",
        description=(
            "With elastic devices: into how many shares each batch is cut for the whole life of the job. Any number "
            "of devices that divides it gives the same bits. A power of two."
        ),
        json_schema_extra=in_group("Hardware"),
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp",
        title="Strategy",
        description="ddp: each device holds the whole model. fsdp: each holds a share of weights and optimizer.",
        json_schema_extra=in_group("Hardware"),
    )
    other_device_count: Literal["refuse", "approximate"] = Field(
        "refuse",
        title="Resume on another number of devices",
        description=(
            "What happens where a checkpoint was made on another number of devices: it is refused, or taken, and "
            "the job says that it is approximate."
        ),
        json_schema_extra=in_group("Hardware"),
    )
    deterministic: bool = Field(
        True,
        title="Deterministic",
        description="Use only algorithms that give the same bits each time. Else a resume is approximate.",
        json_schema_extra=in_group("Reproducibility"),
    )
    try_resume: bool = Field(
        True,
        title="Try a resume after the first step",
        description=(
            "Builds everything a second time beside the training and loads its state there: what could not be "
            "resumed fails at once. Turn it off where a second build has side effects."
        ),
        json_schema_extra=in_group("Reproducibility"),
    )
    checkpoint_every_epochs: int = Field(
        1,
        ge=0,
        le=100_000,
        title="Checkpoint every so many epochs",
        description="A crash costs at most the steps since the last checkpoint; 0 turns these off.",
        json_schema_extra=in_group("Checkpoints"),
    )
    checkpoint_every_minutes: float = Field(
        10.0,
        ge=0,
        le=10_080,
        title="Checkpoint every so many minutes",
        description="Also within an epoch, between two steps; 0 turns these off.",
        json_schema_extra=in_group("Checkpoints"),
    )
    keep_last: int = Field(
        2,
        ge=1,
        le=1000,
        title="Keep the newest",
        description="How many of the newest checkpoints are kept.",
        json_schema_extra=in_group("Checkpoints"),
    )
    keep_best: int = Field(
        1,
        ge=0,
        le=1000,
        title="Keep the best",
        description="How many checkpoints with the lowest validation loss are kept as well.",
        json_schema_extra=in_group("Checkpoints"),
    )

    @field_validator("devices", mode="before")
    @classmethod
    def _a_number_or_elastic(cls, value: Any) -> Any:
        if value != ELASTIC and (type(value) is not int or not 1 <= value <= MAX_DEVICES):
            refuse("devices", f"devices must be a whole number from 1 to {MAX_DEVICES}, or {ELASTIC!r}.")
        return value

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.warmup_epochs > self.epochs:
            refuse("warmup_epochs", f"warmup_epochs must not exceed epochs ({self.epochs}).")
        refuse_what_devices_cannot_use(self)
        self._refuse_a_device_without_a_sample()
        return self

    def _refuse_a_device_without_a_sample(self) -> None:
        shares = device_demand(vars(self)).most_ranks
        if self.batch_size < shares:
            refuse(
                "batch_size",
                f"batch_size must be at least {shares}: each batch is cut into as many shares, one for each device "
                "or logical rank.",
            )


class GenerationConfig(RecipeConfig):
    """What every recipe that writes synthetic data has in common."""

    samples: int = Field(
        10_000,
        ge=1,
        le=1_000_000_000,
        title="Samples",
        description="How many samples are written in all.",
        json_schema_extra=in_group("Data"),
    )
    samples_per_shard: int = Field(
        1000,
        ge=1,
        le=10_000_000,
        title="Samples in a shard",
        description="A shard is one file; finished shards are never made again.",
        json_schema_extra=in_group("Data"),
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        title="Seed",
        description="Fixes every random draw. Equal seeds give equal data.",
        json_schema_extra=in_group("Reproducibility"),
    )

    @model_validator(mode="after")
    def _shards_are_bounded(self) -> Self:
        if self.samples > self.samples_per_shard * MAX_SHARDS:
            least = -(-self.samples // MAX_SHARDS)
            refuse(
                "samples_per_shard", f"samples_per_shard must be at least {least} for {self.samples} samples."
            )
        return self
