"""What can be set of the localization training. Imports no torch."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from heimdall import TrainingConfig, in_group, refuse, shared
from heimdall.recipes.localization.settings import RadioSettings

TITLE = "RF localization"
DESCRIPTION = (
    "Learns to say where a transmitter is, and how sure that is, from what a network of receivers reports."
)
JOB_TYPE = "training"

MOST_MADE = 1_000_000
_DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _schedule_field() -> Any:
    field = shared("lr_scheduler", "cosine")
    field.description = "Constant stays at the learning rate; cosine falls to 1 % of it at the last step."
    return field


class Config(RadioSettings, TrainingConfig):
    epochs: int = shared("epochs", 100)
    optimizer: Literal["adamw", "adam", "sgd"] = shared("optimizer", "adam")
    lr_scheduler: Literal["constant", "cosine"] = _schedule_field()
    weight_decay: float = shared("weight_decay", 0.0001)
    early_stop_patience: int = shared("early_stop_patience", 20)
    early_stop_delta: float = shared("early_stop_delta", 0.001)

    dataset: str = Field(
        "",
        max_length=100,
        title="Dataset",
        description="Name of a generated dataset. Empty: samples are made from the settings below.",
        json_schema_extra=in_group("Data"),
    )
    samples: int = Field(
        50_000,
        ge=100,
        le=5_000_000,
        title="Samples",
        description="How many samples are used: made, or the first so many of the dataset.",
        json_schema_extra=in_group("Data"),
    )
    data_seed: int = Field(
        1,
        ge=0,
        le=2**32 - 1,
        title="Seed of the samples",
        description="Fixes every sample that is made here.",
        json_schema_extra=in_group("Data"),
    )
    test_split: float = Field(
        0.1,
        ge=0,
        le=0.8,
        title="Test part",
        description="Share of the samples that the training never sees; they are kept for the evaluation.",
        json_schema_extra=in_group("Data"),
    )
    width: int = Field(
        48,
        ge=8,
        le=1024,
        title="Width",
        description="Numbers that stand for a receiver inside the networks.",
        json_schema_extra=in_group("Model"),
    )
    heads: int = Field(
        4,
        ge=1,
        le=32,
        title="Attention heads",
        description="Parts into which each layer divides its attention; the width must be a multiple of it.",
        json_schema_extra=in_group("Model"),
    )
    layers: int = Field(
        2,
        ge=1,
        le=16,
        title="Layers",
        description="Attention layers of the network that makes the first estimate.",
        json_schema_extra=in_group("Model"),
    )
    dropout: float = Field(
        0.2,
        ge=0,
        le=0.9,
        title="Dropout",
        description="Share of the values inside that network which a training step sets to zero.",
        json_schema_extra=in_group("Model"),
    )
    refinements: int = Field(
        2,
        ge=0,
        le=8,
        title="Refinements",
        description="How often the second network weighs the times of arrival anew; 0 stays with the first estimate.",
        json_schema_extra=in_group("Model"),
    )

    @field_validator("dataset")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if name and not _DATASET_NAME.fullmatch(name):
            raise ValueError("a dataset's name has letters, digits, dots, dashes and underscores")
        return name

    @model_validator(mode="after")
    def _fields_go_together(self) -> Self:
        if self.width % self.heads:
            refuse("width", f"width must be a multiple of heads ({self.heads}).")
        if self.validation_split + self.test_split > 0.9:
            refuse("test_split", "validation_split and test_split together must leave 0.1 for the training.")
        if not self.dataset and self.samples > MOST_MADE:
            refuse("samples", f"samples must be at most {MOST_MADE} where they are made for one training.")
        if self.dataset:
            for name in ("data_seed", *RadioSettings.model_fields):
                if getattr(self, name) != Config.model_fields[name].default:
                    refuse(name, f"{name} comes from the dataset; leave it at its default.")
        return self


def estimate_memory_bytes(config: Config) -> int:
    """The samples, weights with gradients and optimizer state, and what one batch leaves for the backward pass."""
    receivers = config.columns
    samples = config.samples * (60 + 40 * receivers)
    layers = config.layers + 2 * config.refinements
    weights = (config.layers + 2) * 10 * config.width**2
    tokens = config.batch_size * receivers
    activations = tokens * (layers * (16 * config.width + 3 * config.heads * receivers) * 4 + 3000)
    copies = {"adamw": 4, "adam": 4, "sgd": 3}[config.optimizer] + (1 if config.ema_decay else 0)
    return samples + 4 * copies * weights + activations + 350 * 2**20
