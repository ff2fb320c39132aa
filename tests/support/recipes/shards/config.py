"""Synthetic data that is made of nothing but its shard's number."""

from pydantic import Field

from heimdall import GenerationConfig

TITLE = "Shards"
DESCRIPTION = "Small files of numbers."
JOB_TYPE = "synthetic_data"


class Config(GenerationConfig):
    shard_seconds: float = Field(
        0.0, ge=0, le=60, title="Shard seconds", description="Sleep for this long in each shard."
    )
