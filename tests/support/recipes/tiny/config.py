"""A training small enough that a step takes about a millisecond."""

from pydantic import Field

from heimdall import TrainingConfig, shared

TITLE = "Tiny"
DESCRIPTION = "A small network with dropout and noisy samples."
JOB_TYPE = "training"


class Config(TrainingConfig):
    epochs: int = shared("epochs", 3)
    samples: int = Field(64, ge=4, le=100_000, title="Samples", description="How many samples there are.")
    step_seconds: float = Field(
        0.0,
        ge=0,
        le=60,
        title="Step seconds",
        description="Sleep for this long in each step, so that a test can act.",
    )
