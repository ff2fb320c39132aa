"""The training loop. It is read from top to bottom, and it never knows what is in a part."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from heimdall.engine.control import STEP, Control
from heimdall.engine.data import Batch, Data
from heimdall.engine.ema import WeightAverage
from heimdall.engine.errors import Refused
from heimdall.engine.progress import Best, EarlyStopping, EpochTotals, Position, Progress, StepRecord
from heimdall.engine.rng import Generators, mix
from heimdall.failpoints import failpoint
from heimdall.recipes.base import Evaluation, Loss, split_loss


class Outcome(str, Enum):
    """How a training ended. (`StrEnum` came with Python 3.11; trainings may run on 3.10.)"""

    __str__ = str.__str__

    STOPPED = "stopped"
    EPOCHS = "epochs"
    EARLY_STOPPING = "early_stopping"


@dataclass(frozen=True)
class ClosedEpoch:
    epoch: int
    values: dict[str, float | None]
    loss: float
    """What best and patience go by: the validation loss, or without validation the training loss."""
    is_best: bool
    artifact: Mapping[str, Any] | None = None


class Watcher(Control, Protocol):
    """What goes on around the loop. Nothing here may change the training."""

    def poll_at_boundary(self) -> str:
        """The same question at the beginning and the end of an epoch."""

    def phase(self, name: str) -> None: ...

    def step_finished(self) -> None: ...

    def epoch_closed(self, epoch: ClosedEpoch, *, outcome: Outcome | None) -> None:
        """`outcome` is what the loop is about to end with, None if it goes on."""


Read = tuple[int, Tensor, dict[str, Tensor]]
"""Samples of a batch, its mean loss and further means, as tensors that are read late."""


class Step:
    """One optimizer step over the batches of a group."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Any,
        loss: Callable[[nn.Module, Any], Loss],
        *,
        progress: Progress,
        totals: EpochTotals,
        autocast: AbstractContextManager[Any] | None = None,
        scaler: torch.amp.GradScaler | None = None,
        average: WeightAverage | None = None,
        max_grad_norm: float = 0.0,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._schedule = schedule
        self._loss = loss
        self._progress = progress
        self._totals = totals
        self._autocast = autocast or nullcontext()
        self._scaler = scaler
        self._average = average
        self._max_grad_norm = max_grad_norm
        self._num_groups = len(optimizer.param_groups)

    @property
    def may_skip(self) -> bool:
        """Whether a scaler leaves out steps whose gradients overflow."""
        return self._scaler is not None

    def __call__(self, batches: list[Batch]) -> None:
        optimizer, scaler, progress = self._optimizer, self._scaler, self._progress
        optimizer.zero_grad()
        read = self._add_gradients(batches)
        grad_norm = self._clip() if self._max_grad_norm else None
        if scaler is None:
            optimizer.step()
        else:
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            # A skipped step counts, and the schedule goes on: epochs keep their length.
            progress.steps_skipped += scaler.get_scale() < scale
        if self._average is not None:
            self._average.update()
        progress.steps_completed += 1
        if len(optimizer.param_groups) != self._num_groups:
            self._refuse_new_groups()
        rate = float(optimizer.param_groups[0]["lr"])  # it may be a tensor that the schedule changes in place
        self._totals.add(
            StepRecord(progress.steps_completed, progress.epochs_completed + 1, rate, grad_norm, read)
        )
        self._schedule.step()

    def _add_gradients(self, batches: list[Batch]) -> list[Read]:
        # The last group of an epoch may be short, and its last batch too: each sample weighs the same.
        size = batches[0].samples if len(batches) == 1 else sum(batch.samples for batch in batches)
        read: list[Read] = []
        for batch in batches:
            samples = batch.samples
            with self._autocast:
                loss, means = split_loss(self._loss(self._model, batch.data))
            self._backward(loss if samples == size else loss * (samples / size))
            read.append((samples, loss.detach(), {name: mean.detach() for name, mean in means.items()}))
        return read

    def _backward(self, share: Tensor) -> None:
        (share if self._scaler is None else self._scaler.scale(share)).backward()

    def _refuse_new_groups(self) -> None:
        """torch's optimizers load only as many groups as they were built with; others may know better."""
        self._num_groups = len(self._optimizer.param_groups)
        if type(self._optimizer).load_state_dict is Optimizer.load_state_dict:
            raise Refused(
                "cannot_resume",
                f"At step {self._progress.steps_completed} the optimizer had {self._num_groups} groups of "
                "weights, and it was built with fewer: no later attempt could load its state. Give all groups in "
                "optimizer(), those of frozen weights too: what has no gradient is not changed.",
            )

    def _clip(self) -> Tensor:
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        return torch.nn.utils.clip_grad_norm_(weights, self._max_grad_norm)


class Validation:
    """A pass over the validation samples. It draws from no saved generator; it can be repeated."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        evaluation: Callable[[], Evaluation],
        generators: Generators,
        *,
        seed: int,
        modes: AbstractContextManager[Any] | None = None,
        autocast: AbstractContextManager[Any] | None = None,
    ) -> None:
        """modes: puts the modules back into the modes in which they train; a model that only validates needs none."""
        self._model = model
        self._modes = modes or nullcontext()
        self._data = data
        self._evaluation = evaluation
        self._generators = generators
        self._seed = mix(seed, "validation")
        self._autocast = autocast or nullcontext()
        self.artifact: Mapping[str, Any] | None = None
        """What the newest pass shows beside its values."""

    def __call__(self, control: Control) -> dict[str, float] | None:
        """The values, or None where a stop at the next step came in between."""
        self.artifact = None
        if not self._data.has_validation:
            return {}
        evaluation = self._evaluation()
        with self._modes, torch.no_grad(), self._generators.set_aside(self._seed):
            self._model.eval()
            for batch in self._data.validation():
                if control.poll() == STEP:
                    return None
                with self._autocast:
                    evaluation.update(self._model, batch.data, batch.samples)
            values = checked_values(evaluation.result())
            self.artifact = evaluation.artifact()
            return values


@dataclass(frozen=True)
class Loop:
    model: nn.Module
    step: Step
    validation: Validation
    data: Data
    progress: Progress
    position: Position
    totals: EpochTotals
    best: Best
    early_stopping: EarlyStopping
    epoch_schedule: Any | None = None
    """A scheduler that wants the epoch's loss (ReduceLROnPlateau)."""

    def train(self, *, epochs: int, watcher: Watcher) -> Outcome:
        """Train on from where the parts are. After STOPPED it can be called again, here or elsewhere."""
        position = self.position
        while self._end(epochs) is None:
            # 1. The steps that are left of the epoch.
            if watcher.poll_at_boundary() == STEP:
                return Outcome.STOPPED
            watcher.phase("training")
            for batches in self.data.rest_of_epoch(position):
                self.step(batches)
                position.batches += len(batches) // self.data.shares
                failpoint("step_finished")
                watcher.step_finished()
                if watcher.poll() == STEP:
                    return Outcome.STOPPED
            # 2. Validate; a stop abandons it, and it is repeated as a whole.
            watcher.phase("validating")
            failpoint("validating")
            values = self.validation(watcher)
            if values is None:
                return Outcome.STOPPED
            # 3. Close the epoch. The end of the training beats a stop.
            closed = self._close(values)
            outcome = self._end(epochs) or (Outcome.STOPPED if watcher.poll_at_boundary() else None)
            watcher.epoch_closed(closed, outcome=outcome)
            failpoint("epoch_closed")
            if outcome is not None:
                return outcome
        outcome = self._end(epochs)
        assert outcome is not None
        return outcome

    def _end(self, epochs: int) -> Outcome | None:
        if self.progress.epochs_completed >= epochs:
            return Outcome.EPOCHS
        return Outcome.EARLY_STOPPING if self.early_stopping.is_reached else None

    def _close(self, validated: dict[str, float]) -> ClosedEpoch:
        values: dict[str, float | None] = {**self.totals.means(), "val_loss": None, **validated}
        values["learning_rate"] = self.totals.learning_rate
        if self.step.may_skip:
            values["steps_skipped"] = self.progress.steps_skipped
        loss = _the_loss(values)
        self.progress.epochs_completed += 1
        self.position.epoch, self.position.batches = self.progress.epochs_completed, 0
        self.totals.reset()
        is_best = self.best.consider(self.progress.epochs_completed, loss)
        self.early_stopping.consider(loss)
        if self.epoch_schedule is not None:
            self.epoch_schedule.step(loss)
        return ClosedEpoch(self.progress.epochs_completed, values, loss, is_best, self.validation.artifact)


def checked_values(values: Mapping[str, Any]) -> dict[str, float]:
    if "val_loss" not in values:
        raise ValueError(
            "result() of the evaluation gives no val_loss, which says which epoch is the best: add it"
        )
    return {name: float(value) for name, value in values.items()}


def _the_loss(values: dict[str, float | None]) -> float:
    for name in ("val_loss", "train_loss"):
        loss = values.get(name)
        if loss is not None:
            return loss
    return math.nan
