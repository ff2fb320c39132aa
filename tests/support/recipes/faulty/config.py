"""The tiny training, with a fault at a chosen step."""

from typing import Literal

from pydantic import Field

from tests.support.recipes.tiny import config as tiny

TITLE = "Faulty"
DESCRIPTION = "Raises, hangs or kills itself at a step."
JOB_TYPE = "training"


class Config(tiny.Config):
    fault: Literal["none", "raise", "print", "hang", "kill", "abort", "exit", "leave", "memory", "nan"] = (
        Field("none", title="Fault", description="What happens at the step.")
    )
    fault_step: int = Field(3, ge=0, le=100_000, title="Fault at step", description="When it happens.")
    once: str = Field("", title="Once", description="A file: where it exists, nothing happens any more.")
