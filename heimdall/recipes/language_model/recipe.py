"""A character-level transformer: the text in pieces, the model, its loss and its perplexity."""

import hashlib
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from heimdall import Evaluation, Samples, TrainingRecipe
from heimdall.recipes.language_model.config import VOCABULARY, Config
from heimdall.recipes.language_model.text import UNKNOWN, tokens_of


class Pieces:
    """Pieces of a text, spread evenly over it. A seed moves a piece a little and hides some of its characters."""

    def __init__(self, tokens: Tensor, *, length: int, count: int, hidden: float = 0.0) -> None:
        self.tokens = tokens
        self._length = length
        self._count = count
        self._hidden = hidden
        self._last_start = len(tokens) - length - 1
        if self._last_start < 0:
            raise ValueError(
                f"the text is too short: a part of it has {len(tokens)} characters, and a sample needs {length + 1}; "
                "lower context_length, or give more text"
            )
        self._offsets = torch.arange(length + 1)

    def __len__(self) -> int:
        return self._count

    def sample(self, index: int, seed: int | None) -> tuple[Tensor, Tensor]:
        inputs, targets = self.batch([index], [seed])
        return inputs[0], targets[0]

    def batch(self, indices: list[int], seeds: list[int | None]) -> tuple[Tensor, Tensor]:
        """Characters, and for each the one that follows it."""
        drawn = [self._draw(index, seed) for index, seed in zip(indices, seeds, strict=True)]
        starts = torch.tensor([start for start, _ in drawn])
        pieces = self.tokens[starts[:, None] + self._offsets].long()
        inputs, targets = pieces[:, :-1].clone(), pieces[:, 1:].contiguous()
        if self._hidden:
            inputs[torch.stack([chances for _, chances in drawn]) < self._hidden] = UNKNOWN
        return inputs, targets

    def _draw(self, index: int, seed: int | None) -> tuple[int, Tensor]:
        start, after = (self._last_start * place // self._count for place in (index, index + 1))
        if seed is None:
            return start, torch.ones(self._length)
        generator = torch.Generator().manual_seed(seed)
        start += int(torch.randint(max(1, after - start), (), generator=generator))
        return start, torch.rand(self._length, generator=generator)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.before_attention = nn.LayerNorm(config.width)
        self.attention = nn.Linear(config.width, 3 * config.width)
        self.attended = nn.Linear(config.width, config.width)
        self.before_mixing = nn.LayerNorm(config.width)
        self.widen = nn.Linear(config.width, 4 * config.width)
        self.narrow = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor, future: Tensor) -> Tensor:
        x = x + self._drop(self.attended(self._attend(self.before_attention(x), future)))
        return x + self._drop(self.narrow(functional.gelu(self.widen(self.before_mixing(x)))))

    def _attend(self, x: Tensor, future: Tensor) -> Tensor:
        # Written out: the fused kernels do not give the same bits each time on every GPU.
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.attention(x).chunk(3, dim=-1)
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        weights = self._drop(scores.masked_fill(future, -math.inf).softmax(dim=-1))
        return (weights @ value).transpose(1, 2).flatten(2)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class Transformer(nn.Module):
    future: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.characters = nn.Embedding(VOCABULARY, config.width)
        self.places = nn.Embedding(config.context_length, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.before_head = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, VOCABULARY, bias=False)
        future = torch.ones(config.context_length, config.context_length, dtype=torch.bool).triu(1)
        self.register_buffer("future", future, persistent=False)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)
        self.head.weight = self.characters.weight

    def forward(self, characters: Tensor) -> Tensor:
        length = characters.shape[1]
        x = self.characters(characters) + self.places.weight[:length]
        x = functional.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x, self.future[:length, :length])
        return self.head(self.before_head(x))


class Perplexity(Evaluation):
    def result(self) -> dict[str, float]:
        values = super().result()
        return values | {"val_perplexity": math.exp(min(values["val_loss"], 700.0))}


class Recipe(TrainingRecipe):
    config: Config

    def training_samples(self) -> Samples:
        config = self.config
        text = self._text()[: self._kept_for_training()]
        return Pieces(
            text, length=config.context_length, count=config.samples_per_epoch, hidden=config.token_dropout
        )

    def validation_samples(self) -> Samples | None:
        """The end of the text, once and as it is."""
        if not self.config.validation_split:
            return None
        text = self._text()[self._kept_for_training() :]
        length = self.config.context_length
        return Pieces(text, length=length, count=max(1, (len(text) - 1) // length))

    def model(self) -> nn.Module:
        return Transformer(self.config)

    def sharded_blocks(self, model: nn.Module) -> list[nn.Module]:
        return list(cast(Transformer, model).blocks)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        characters, following = batch
        return functional.cross_entropy(model(characters).flatten(0, 1).float(), following.flatten())

    def evaluation(self) -> Evaluation:
        return Perplexity(self)

    def fingerprint(self, training: Samples, validation: Samples | None) -> str:
        return hashlib.sha256(self._text().numpy().tobytes()).hexdigest()

    def _text(self) -> Tensor:
        if not hasattr(self, "_tokens"):
            tokens = tokens_of(self.config.text_folder, self.config.max_chars, self.scratch)
            self._tokens = torch.from_numpy(tokens)
        return self._tokens

    def _kept_for_training(self) -> int:
        return len(self._text()) - int(len(self._text()) * self.config.validation_split)
