"""The jobs that a new installation queues at its first start, in order."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DemoJob:
    """`reads_the_one_before`: it is trained on the dataset that the job before it makes, and waits for that."""

    recipe: str
    job_name: str
    description: str
    config: dict[str, Any]
    reads_the_one_before: bool = False


SAMPLES = 20_000

JOBS = (
    DemoJob(
        recipe="rf_dataset",
        job_name="Northern Italy",
        description="Transmitters that seven web receivers in northern Italy hear: the data of the demo.",
        config={"samples": SAMPLES, "samples_per_shard": 2_000, "seed": 1},  # a few seconds
    ),
    DemoJob(
        recipe="localization",
        job_name="Demo: where is the transmitter?",
        description="Learns to say where a transmitter is, and how sure that is. Pause it, resume it, break it.",
        # A few minutes on two cores.
        config={"samples": SAMPLES, "epochs": 40, "batch_size": 128, "learning_rate": 0.003},
        reads_the_one_before=True,
    ),
)
