"""Writes samples of a radio scene: which transmitter is where, and what each receiver reports of it."""

from pydantic import Field

from heimdall import GenerationConfig, in_group, shared
from heimdall.recipes.localization.settings import RadioSettings

TITLE = "RF localization dataset"
DESCRIPTION = "Simulates transmitters that a network of receivers hears, for the localization recipe."
JOB_TYPE = "synthetic_data"
READ_BY = "localization"
MAX_SAMPLES = 5_000_000


class Config(RadioSettings, GenerationConfig):
    samples: int = Field(
        100_000,
        ge=100,
        le=MAX_SAMPLES,
        title="Samples",
        description="How many samples are written: 100 to 5 million.",
        json_schema_extra=in_group("Data"),
    )
    first_sample: int = Field(
        0,
        ge=0,
        le=2**40,
        title="First sample",
        description="Number of the first sample; to extend a dataset, the number of samples that it has.",
        json_schema_extra=in_group("Data"),
    )
    samples_per_shard: int = shared("samples_per_shard", 20_000)


def estimate_memory_bytes(config: Config) -> int:
    """One shard at a time, as arrays and as the bytes of its file."""
    return 300_000_000 + 3 * config.samples_per_shard * (40 + 38 * config.columns)
