"""What ranks add up, always in one order: the rows of their steps, and a validation of which each has a share."""

import json
from collections.abc import Mapping
from typing import Any

import torch

from heimdall.engine.control import STEP, Control
from heimdall.engine.loop import Validation, checked_values
from heimdall.engine.packing import packed, unpacked
from heimdall.engine.progress import EpochTotals, StepRecord, as_floats, tensors_of
from heimdall.engine.ranks import OneProcess, Ranks
from heimdall.engine.rng import mix
from heimdall.recipes.base import Evaluation


class RankTotals(EpochTotals):
    """The rows of all ranks' steps. All of them take rows and means at the same place, and each is given the same."""

    def __init__(self, ranks: Ranks | OneProcess, *, shares: int = 1) -> None:
        """shares: how many shares of a batch each rank has."""
        self._ranks, self._shares = ranks, shares
        super().__init__()

    def exchange(self) -> None:
        records, self._unread = self._unread, []
        own = json.dumps(_plain(records)).encode()
        for steps in zip(*(json.loads(data) for data in self._ranks.gather(own)), strict=True):
            self._rows.append(self._add_up_ranks(steps))

    def take_rows(self) -> list[dict[str, Any]]:
        self.exchange()
        return super().take_rows()

    def means(self) -> dict[str, float]:
        self.exchange()
        return super().means()

    def _read(self) -> None:
        """What is not exchanged yet is nobody's: a checkpoint and an epoch's end exchange first."""

    def _add_up_ranks(self, steps: tuple[dict[str, Any], ...]) -> dict[str, Any]:
        first, shares = steps[0], self._shares
        batches = [
            batch
            for begin in range(0, len(first["batches"]), shares)
            for step in steps
            for batch in step["batches"][begin : begin + shares]
            if batch[0]
        ]
        row = {"step": first["step"], "epoch": first["epoch"], "loss": 0.0}
        row["learning_rate"] = first["learning_rate"]
        sizes: dict[str, int] = {}
        for samples, values in batches:
            for name in values:
                sizes[name] = sizes.get(name, 0) + samples
        for samples, values in batches:
            for name, value in values.items():
                row[name] = row.get(name, 0.0) + value * (samples / sizes[name])
                self.sums[name] = self.sums.get(name, 0.0) + value * samples
        for name, size in sizes.items():
            self.given[name] = self.given.get(name, 0) + size
        if first["grad_norm"] is not None:
            row["grad_norm"] = first["grad_norm"]
        self.learning_rate = first["learning_rate"]
        return row


def _plain(records: list[StepRecord]) -> list[dict[str, Any]]:
    values = iter(
        as_floats([tensor for record in records for tensor in tensors_of(record)]) if records else []
    )
    return [
        {
            "step": record.step,
            "epoch": record.epoch,
            "learning_rate": record.learning_rate,
            "batches": [
                [samples, {name: next(values) for name in ("loss", *means)}]
                for samples, _, means in record.batches
            ],
            "grad_norm": None if record.grad_norm is None else next(values),
        }
        for record in records
    ]


class RankValidation(Validation):
    """A validation of all ranks. An evaluation that can be added up has a part for each share of the data; with
    another one each rank goes through all of it."""

    def __init__(
        self, *arguments: Any, ranks: Ranks | OneProcess, numbers: list[int], **options: Any
    ) -> None:
        """numbers: of the shares that are this process's; none where all processes do the same."""
        super().__init__(*arguments, **options)
        self._ranks, self._numbers = ranks, numbers

    def __call__(self, control: Control) -> dict[str, float] | None:
        self.artifact = None
        if not self._data.has_validation:
            return {}
        self._ranks.share_buffers(self._model)
        evaluation = self._evaluation()
        is_split = evaluation.can_be_split and bool(self._numbers)
        numbers: list[int] | list[None] = self._numbers if is_split else [None]
        partials = [self._gone_through(number, control) for number in numbers]
        if self._ranks.agree_whether_abandoned():
            return None
        if is_split:
            own = packed([each.partial() for each in partials])
            evaluation.take_together([one for data in self._ranks.gather(own) for one in unpacked(data)])
        else:
            (evaluation,) = partials
        with self._modes, torch.no_grad(), self._generators.set_aside(mix(self._seed, "result")):
            self._model.eval()
            values = checked_values(evaluation.result())
            self.artifact = evaluation.artifact()
        return self._values_of_leader(values)

    def _gone_through(self, number: int | None, control: Control) -> Evaluation:
        """An evaluation of one share of the data, or of all of it."""
        evaluation = self._evaluation()
        seed = self._seed if number is None else mix(self._seed, number)
        with self._modes, torch.no_grad(), self._generators.set_aside(seed):
            self._model.eval()
            for batch in self._data.validation(share=number):
                if self._is_abandoned(control):
                    break
                with self._autocast:
                    evaluation.update(self._model, batch.data, batch.samples)
        return evaluation

    def _is_abandoned(self, control: Control) -> bool:
        """Ranks that compute for themselves need not stop at the same batch."""
        if self._ranks.is_leader and control.poll() == STEP:
            self._ranks.abandon()
        if not self._numbers:
            return bool(self._ranks.agree(int(self._ranks.is_abandoned)))
        return self._ranks.is_abandoned

    def _values_of_leader(self, values: Mapping[str, float]) -> dict[str, float]:
        shared: dict[str, float] = json.loads(self._ranks.share(json.dumps(values).encode()))
        return shared
