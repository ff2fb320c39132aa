"""What a training has done so far: finished epochs and steps, best epoch, patience, the epoch under way.

Each class here is a part.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor


class _Counts:
    """A dataclass of plain values as a part."""

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            setattr(self, field.name, state[field.name])


@dataclass
class Progress(_Counts):
    """Finished things of the whole job."""

    epochs_completed: int = 0
    steps_completed: int = 0
    steps_skipped: int = 0


@dataclass
class Position(_Counts):
    """Where in the data: the epoch (from 0) and its finished batches."""

    epoch: int = 0
    batches: int = 0

    def left_out(self, fault: str, state: dict[str, Any]) -> dict[str, Any]:
        """For a restore that is broken on purpose: the epoch begins anew."""
        return state | {"batches": 0} if fault == "position" else state


@dataclass
class Best(_Counts):
    """The epoch with the lowest loss; the earliest of equals."""

    epoch: int | None = None
    loss: float | None = None

    def consider(self, epoch: int, loss: float) -> bool:
        if math.isnan(loss) or (self.loss is not None and not loss < self.loss):
            return False
        self.epoch, self.loss = epoch, loss
        return True


class EarlyStopping:
    """Says when no epoch has been better, by more than delta, for as many epochs as the patience."""

    def __init__(self, *, patience: int, delta: float) -> None:
        self.patience = patience
        self.delta = delta
        self.lowest = math.inf
        self.epochs_without_gain = 0

    @property
    def is_reached(self) -> bool:
        return self.patience > 0 and self.epochs_without_gain >= self.patience

    def consider(self, loss: float) -> None:
        if loss < self.lowest - self.delta:
            self.lowest = loss
            self.epochs_without_gain = 0
        else:
            self.epochs_without_gain += 1

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "epochs_without_gain": self.epochs_without_gain}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lowest = state["lowest"]
        self.epochs_without_gain = state["epochs_without_gain"]


@dataclass(slots=True)
class StepRecord:
    """One finished step; its values are still tensors, so that nothing waits for the device."""

    step: int
    epoch: int
    learning_rate: float
    grad_norm: Tensor | None
    batches: Sequence[tuple[int, Tensor, dict[str, Tensor]]]
    """(samples, mean loss, further means) of each batch of the step."""


class EpochTotals:
    """Adds up the epoch under way and turns finished steps into rows. Tensors are read late, all at once."""

    def __init__(self) -> None:
        self._unread: list[StepRecord] = []
        self._rows: list[dict[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, float] = {}
        self.given: dict[str, int] = {}
        """The samples that each mean was given for: a loss() may give one only now and then."""
        self.learning_rate = 0.0

    def add(self, record: StepRecord) -> None:
        self._unread.append(record)

    def take_rows(self) -> list[dict[str, Any]]:
        """The rows of the steps since the last call."""
        self._read()
        rows, self._rows = self._rows, []
        return rows

    def means(self) -> dict[str, float]:
        self._read()
        return {f"train_{name}": total / self.given[name] for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        self._read()
        return {"sums": dict(self.sums), "given": dict(self.given), "learning_rate": self.learning_rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.given = dict(state["sums"]), dict(state["given"])
        self.learning_rate = state["learning_rate"]

    def _read(self) -> None:
        records, self._unread = self._unread, []
        if not records:
            return
        values = iter(as_floats([tensor for record in records for tensor in tensors_of(record)]))
        for record in records:
            self._rows.append(self._add_up(record, values))

    def _add_up(self, record: StepRecord, values: Any) -> dict[str, Any]:
        row = {"step": record.step, "epoch": record.epoch, "loss": 0.0, "learning_rate": record.learning_rate}
        sizes = _samples_given(record)
        for samples, _, means in record.batches:
            for name in ("loss", *means):
                value = next(values)
                row[name] = row.get(name, 0.0) + value * (samples / sizes[name])
                self.sums[name] = self.sums.get(name, 0.0) + value * samples
        for name, size in sizes.items():
            self.given[name] = self.given.get(name, 0) + size
        if record.grad_norm is not None:
            row["grad_norm"] = next(values)
        self.learning_rate = record.learning_rate
        return row


def _samples_given(record: StepRecord) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for samples, _, means in record.batches:
        for name in ("loss", *means):
            sizes[name] = sizes.get(name, 0) + samples
    return sizes


def tensors_of(record: StepRecord) -> list[Tensor]:
    tensors = [tensor for _, loss, means in record.batches for tensor in (loss, *means.values())]
    return tensors if record.grad_norm is None else [*tensors, record.grad_norm]


def as_floats(tensors: list[Tensor]) -> list[float]:
    if all(tensor.is_cpu for tensor in tensors):
        return [tensor.item() for tensor in tensors]
    # One wait for the device instead of one for each value.
    device = next(tensor.device for tensor in tensors if not tensor.is_cpu)
    read: list[float] = torch.stack(
        [tensor.to(device, torch.float64).reshape(()) for tensor in tensors]
    ).tolist()
    return read
