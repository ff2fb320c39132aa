"""What can be set of the language model. Imports no torch."""

import os
from pathlib import Path

from pydantic import Field, model_validator
from typing_extensions import Self

from heimdall import TrainingConfig, in_group, refuse, shared

TITLE = "Language model"
DESCRIPTION = "A small transformer that learns to write text, character by character."
JOB_TYPE = "training"

VOCABULARY = 98  # newline, tab, printable ASCII, and one token for everything else
MOST_PARAMETERS = 1_000_000_000
MOST_TOKENS_IN_A_BATCH = 2**22
FOLDERS = "HEIMDALL_TEXT_FOLDERS"
"""Folders, separated by commas, whose text trainings may read. Who submits a job reads with the worker's rights."""


class Config(TrainingConfig):
    epochs: int = shared("epochs", 20)
    batch_size: int = shared("batch_size", 16)
    learning_rate: float = shared("learning_rate", 0.003)
    warmup_epochs: int = shared("warmup_epochs", 1)

    text_folder: str = Field(
        "",
        max_length=1000,
        title="Folder of text",
        description="A folder of text on the worker's machine, one that is open to trainings. "
        "Empty: Python's own library.",
        json_schema_extra=in_group("Data"),
    )
    max_chars: int = Field(
        400_000,
        ge=1000,
        le=100_000_000,
        title="Maximum characters",
        description="How much text is read, file by file in the order of their names.",
        json_schema_extra=in_group("Data"),
    )
    samples_per_epoch: int = Field(
        1024,
        ge=1,
        le=10_000_000,
        title="Samples per epoch",
        description="Pieces of text in an epoch, spread evenly over all of it and moved a little each time.",
        json_schema_extra=in_group("Data"),
    )
    token_dropout: float = Field(
        0.05,
        ge=0,
        le=0.9,
        title="Masked characters",
        description="Share of the characters that a training sample hides, drawn anew each time; 0 hides none.",
        json_schema_extra=in_group("Data"),
    )
    context_length: int = Field(
        48,
        ge=2,
        le=4096,
        title="Context length",
        description="How many characters the model sees at once.",
        json_schema_extra=in_group("Model"),
    )
    layers: int = Field(
        2,
        ge=1,
        le=64,
        title="Layers",
        description="Transformer blocks, one after the other.",
        json_schema_extra=in_group("Model"),
    )
    heads: int = Field(
        4,
        ge=1,
        le=64,
        title="Attention heads",
        description="Parts into which each block divides its attention; the width must be a multiple of it.",
        json_schema_extra=in_group("Model"),
    )
    width: int = Field(
        64,
        ge=4,
        le=8192,
        title="Width",
        description="Numbers that stand for a character inside the model.",
        json_schema_extra=in_group("Model"),
    )
    dropout: float = Field(
        0.1,
        ge=0,
        le=0.9,
        title="Dropout",
        description="Share of the values inside the model that a training step sets to zero.",
        json_schema_extra=in_group("Model"),
    )

    @model_validator(mode="after")
    def _model_is_possible(self) -> Self:
        if self.text_folder and not _is_open(self.text_folder):
            refuse(
                "text_folder", f"text_folder must lie in a folder that the administrator lists in {FOLDERS}."
            )
        if self.width % self.heads:
            refuse("width", f"width must be a multiple of heads ({self.heads}).")
        if parameters(self) > MOST_PARAMETERS:
            refuse("width", f"the model would have {parameters(self):,} parameters; lower width or layers.")
        if self.batch_size * self.context_length > MOST_TOKENS_IN_A_BATCH:
            most = MOST_TOKENS_IN_A_BATCH // self.context_length
            refuse(
                "batch_size",
                f"batch_size must be at most {most} for a context_length of {self.context_length}.",
            )
        if self.max_chars < 4 * self.context_length:
            refuse(
                "max_chars", f"max_chars must be at least {4 * self.context_length}, four context lengths."
            )
        return self


def _is_open(folder: str) -> bool:
    listed = [Path(each.strip()).resolve() for each in os.environ.get(FOLDERS, "").split(",") if each.strip()]
    try:
        wanted = Path(folder).resolve()
    except (OSError, ValueError, RuntimeError):
        return False
    return any(wanted.is_relative_to(each) for each in listed)


def parameters(config: Config) -> int:
    in_a_block = 12 * config.width**2 + 13 * config.width
    return config.layers * in_a_block + (VOCABULARY + config.context_length + 2) * config.width


def estimate_memory_bytes(config: Config) -> int:
    """Weights with gradients and optimizer state, and what one batch leaves for the backward pass."""
    copies = {"adamw": 4, "adam": 4, "sgd": 3}[config.optimizer] + (1 if config.ema_decay else 0)
    item = 4 if config.precision == "fp32" else 2
    tokens = config.batch_size * config.context_length
    in_a_block = 20 * config.width + 3 * config.heads * config.context_length
    activations = tokens * (config.layers * in_a_block + 4 * VOCABULARY)
    return 4 * copies * parameters(config) + item * activations + 4 * config.max_chars + 300 * 2**20
