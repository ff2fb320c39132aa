"""A loss that is NaN or infinite: the training goes on, and people see once from which step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heimdall.plain_json import is_not_finite
from heimdall.trainer.protocol import EpochDone
from training.models import Event, TrainingJob
from training.services.leases import note_event

KIND = "loss_not_finite"


def note_bad_loss(job: TrainingJob, steps: Sequence[dict[str, Any]], epochs: Sequence[EpochDone]) -> None:
    """Once for a job that goes on, whatever else is bad later; again after it began anew."""
    found = next(_bad_losses(steps, epochs), None)
    if found is None or Event.objects.filter(job=job, kind=KIND, data__generation=job.generation).exists():
        return
    step, name, value = found
    is_nan = str(value) == "nan"
    sentence = (
        f"The loss is {'not a number' if is_nan else 'infinite'} since step {step} ({name} = {value}). The training "
        "goes on, though nothing is learnt from such a loss. A smaller learning rate or clipped gradients may help."
    )
    data = {"generation": job.generation, "step": step, "name": name, "value": str(value)}
    note_event(job, KIND, sentence, data=data)


def _bad_losses(
    steps: Sequence[dict[str, Any]], epochs: Sequence[EpochDone]
) -> Iterator[tuple[int, str, Any]]:
    rows: list[tuple[int, Mapping[str, Any]]] = [(row["step"], row) for row in steps]
    for step, values in [*rows, *((epoch.step, epoch.values) for epoch in epochs)]:
        for name, value in values.items():
            if name.endswith("loss") and is_not_finite(value):
                yield step, name, value
