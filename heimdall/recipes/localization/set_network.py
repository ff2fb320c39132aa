"""Attention over a set of members, of which some may be absent. Their order does not matter."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_ABSENT = -1e4  # the score of a receiver that is not there; finite in float16 too, and exp of it is 0


class SetNetwork(nn.Module):
    """Attention over a set: (samples, members, inputs) and a mask to outputs for each member and for the whole."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        heads: int,
        layers: int,
        dropout: float,
        outputs_each: int = 0,
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(AttentionLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.each = nn.Linear(width, outputs_each) if outputs_each else None
        self.whole = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, outputs)
        )

    def begin_at_zero(self) -> None:
        for linear in (self.each, self.whole[-1]):
            if isinstance(linear, nn.Linear):
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, members: Tensor, present: Tensor) -> tuple[Tensor | None, Tensor]:
        hidden = self.embed(torch.where(present[..., None], members, 0.0))
        for layer in self.layers:
            hidden = layer(hidden, present)
        hidden = self.norm(hidden)
        each = None if self.each is None else torch.where(present[..., None], self.each(hidden), 0.0)
        counted = present[..., None].to(hidden.dtype)
        mean = (hidden * counted).sum(dim=1) / counted.sum(dim=1).clamp_min(1.0)
        most = torch.where(present[..., None], hidden, _ABSENT).amax(dim=1)
        return each, self.whole(torch.cat([mean, most], dim=1))


class AttentionLayer(nn.Module):
    """Attention and a small network, each added to what was there. Absent members are attended to by nobody."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm = nn.LayerNorm(width)
        self.second_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: Tensor, present: Tensor) -> Tensor:
        samples, members, width = hidden.shape
        parts = self.project(self.first_norm(hidden)).reshape(
            samples, members, 3, self.heads, width // self.heads
        )
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(dim=0)
        scores = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        scores = torch.where(present[:, None, None, :], scores, _ABSENT)
        mixed = functional.softmax(scores, dim=3) @ value
        hidden = hidden + self.join(mixed.transpose(1, 2).reshape(samples, members, width))
        return hidden + self.feed(self.second_norm(hidden))
