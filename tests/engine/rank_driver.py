"""Trains by a recipe as a trainer does; at the end each rank writes down the whole state that it holds."""

import sys
from pathlib import Path

import torch

from heimdall import codec
from heimdall.engine import logical, recipe_job, replicas
from heimdall.engine.snapshot import state_of
from heimdall.trainer.channel import Channel


class _Job(recipe_job.RecipeJob):
    def train(self) -> None:
        super().train()
        if self._training.loop._end(self._config.epochs) is None:
            return
        rank = 0 if self._ranks is None else self._ranks.number
        path = Path(self._spec.staging) / f"rank-{rank}.safetensors"
        codec.save(str(path), state_of(self.parts), {})
        if self._ranks is not None and self._spec.world_size == 0:
            self._ranks.wait_for_all()  # the end of rank 0 is that of all


def run(channel: Channel) -> int:
    recipe_job.RecipeJob = _Job
    if channel.spec.about.get("without_warm_up"):
        replicas.WARM_UP_PASSES = 0
    if channel.spec.about.get("sums_plainly"):
        logical._Tree = _PlainSum
    if fails := channel.spec.about.get("fails_at_rank"):
        _fail_at_third_step(channel, int(fails))
    return recipe_job.run(channel)


class _PlainSum:
    """One after the other, in the place of a tree."""

    def __init__(self) -> None:
        self.total: list[torch.Tensor] = []

    def add(self, tensors: list[torch.Tensor]) -> None:
        if self.total:
            torch._foreach_add_(self.total, tensors)
        else:
            self.total = tensors


def _fail_at_third_step(channel: Channel, rank: int) -> None:
    from tests.engine.tiny.recipe import Recipe

    if channel.rank == rank:
        Recipe.steps_of_loss = 0
        whole = Recipe.loss

        def loss(self, model, batch):
            type(self).steps_of_loss += 1
            if type(self).steps_of_loss > 3:
                print("this rank is about to fail", file=sys.stderr, flush=True)
                raise ZeroDivisionError("one rank fails on purpose")
            return whole(self, model, batch)

        Recipe.loss = loss
