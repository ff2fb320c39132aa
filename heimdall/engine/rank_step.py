"""One optimizer step of a rank: its share of the batches, and the gradients of all."""

from contextlib import nullcontext
from typing import Any

from torch import Tensor

from heimdall.engine.data import Batch
from heimdall.engine.loop import Read, Step
from heimdall.engine.replicas import Replicas
from heimdall.recipes.base import split_loss


class RankStep(Step):
    def __init__(self, *arguments: Any, replicas: Replicas, ranks: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._replicas = replicas
        self._ranks = ranks

    def _add_gradients(self, batches: list[Batch]) -> list[Read]:
        self._replicas.begin_step()
        # The mean over ranks is taken of what each weighs for its own samples: each sample weighs the same.
        weight_of_one = self._ranks / sum(batch.whole for batch in batches)
        last = len(batches) - 1
        read: list[Read] = []
        for number, batch in enumerate(batches):
            with nullcontext() if number == last else self._replicas.no_sync():
                with self._autocast:
                    loss, means = split_loss(self._replicas(batch.data))
                self._backward(loss * (batch.samples * weight_of_one))
            read.append(_read(batch, loss, means))
        return read


def _read(batch: Batch, loss: Tensor, means: Any) -> Read:
    return batch.samples, loss.detach(), {name: mean.detach() for name, mean in means.items()}
