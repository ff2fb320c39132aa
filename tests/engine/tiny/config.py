from typing import Literal

from pydantic import Field

from heimdall import TrainingConfig, shared

TITLE = "Tiny"
DESCRIPTION = "A small image classifier that draws from every generator."
JOB_TYPE = "training"


class Config(TrainingConfig):
    batch_size: int = shared("batch_size", 8)
    samples: int = Field(60, ge=0, le=100_000)
    validation_samples: int = Field(12, ge=0, le=100_000)
    fail_at_step: int = Field(0, ge=0, le=1_000_000)
    shift: float = Field(0.0, ge=0, le=10)
    overflows: bool = Field(False)
    worsens: bool = Field(False)
    norm: Literal["batch", "layer"] = Field("batch")
    counts_samples: bool = Field(True)
