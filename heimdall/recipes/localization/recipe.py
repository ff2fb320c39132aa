"""The localization training: its samples, the network, the loss, and metrics in metres beside the bound."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from heimdall import Evaluation, Part, Plan, Samples, TrainingRecipe
from heimdall.recipes.localization import dataset
from heimdall.recipes.localization.artifact import artifact
from heimdall.recipes.localization.calibration import (
    FEWEST_OF_A_NUMBER,
    NONE,
    Calibration,
    Distances,
    unseen_coverage,
)
from heimdall.recipes.localization.config import Config
from heimdall.recipes.localization.drawn import MOST_OF_A_NUMBER, drawn
from heimdall.recipes.localization.geometry import Network
from heimdall.recipes.localization.network import (
    PLACES,
    VALUES,
    LocalizationNetwork,
    NetworkOutput,
    Reports,
    negative_log_likelihood,
    tempered_loss,
)
from heimdall.recipes.localization.random_networks import samples_of
from heimdall.recipes.localization.score import mahalanobis_squared, score
from heimdall.recipes.localization.settings import RadioSettings
from heimdall.recipes.schedule import Schedule

LOWEST_RATE = 0.01
BATCH = 1024
"""Of samples that are only looked at."""


class LocalizationBatch(NamedTuple):
    reports: Reports
    truth: Tensor
    """(samples, 2), float64, km."""
    bound: Tensor
    """(samples,), m."""


class Scene:
    """All samples of a training with the network that made them, in numpy."""

    def __init__(
        self, settings: RadioSettings, seed: int, arrays: dict[str, NDArray], fingerprint: str
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.arrays = arrays
        self.fingerprint = fingerprint
        self.network = Network.of(settings)

    @classmethod
    def of(cls, config: Config, scratch: Path) -> "Scene":
        """The config's samples: read from its dataset, or made."""
        if not config.dataset:
            scene, seed = config.scene, config.data_seed
            arrays = samples_of(scene, seed).samples(0, config.samples).arrays
            return cls(scene, seed, arrays, dataset.fingerprint_of_settings(scene, seed, config.samples))
        folder = scratch / "datasets" / config.dataset  # where it is brought for the job
        manifest = dataset.read_manifest(folder)
        if manifest.samples < config.samples:
            raise dataset.UnreadableDataset(
                f"The dataset {config.dataset} has {manifest.samples} samples; samples asks for {config.samples}."
            )
        arrays = dataset.read(folder, manifest, config.samples)
        return cls(manifest.settings, manifest.seed, arrays, manifest.fingerprint(config.samples))

    def state_dict(self) -> dict[str, Any]:
        return {"settings": self.settings.as_said(), "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state != self.state_dict():
            raise ValueError("the checkpoint is of other samples")

    def part(self, config: Config, split: str) -> "RadioSamples":
        """The samples of "train", "validation" or "test"."""
        return RadioSamples(self.network, self.arrays_of(config, split))

    def parts(self, config: Config) -> NDArray[np.int8]:
        """To which part each sample belongs, as a number of SPLITS."""
        count = len(self.arrays["detected"])
        return dataset.split_of(np.arange(count), validation=config.validation_split, test=config.test_split)

    def arrays_of(self, config: Config, split: str) -> dict[str, NDArray]:
        chosen = self.parts(config) == dataset.SPLITS.index(split)
        return {name: values[chosen] for name, values in self.arrays.items()}


class RadioSamples:
    """Numbered samples as tensors. Nothing is drawn: a sample is the same in every epoch."""

    def __init__(self, network: Network, arrays: dict[str, NDArray]) -> None:
        values = np.stack([arrays[name] for name in VALUES], axis=2).astype(np.float32)
        self.values = torch.from_numpy(values)
        self.places = torch.from_numpy(_places(network, arrays))
        """(1 or samples, receivers, 3)."""
        self.detected = torch.from_numpy(arrays["detected"])
        self.truth = torch.from_numpy(arrays["position_km"])
        self.bound = torch.from_numpy(arrays["bound_m"])

    def __len__(self) -> int:
        return len(self.truth)

    def sample(self, index: int, seed: int | None) -> LocalizationBatch:
        batch = self.batch([index], [seed])
        return LocalizationBatch(
            Reports(*(tensor[0] for tensor in batch.reports)), batch.truth[0], batch.bound[0]
        )

    def batch(self, indices: list[int], seeds: list[int | None]) -> LocalizationBatch:
        chosen = torch.as_tensor(indices)
        alike = len(self.places) == 1
        places = self.places.expand(len(chosen), -1, -1).contiguous() if alike else self.places[chosen]
        reports = Reports(self.values[chosen], places, self.detected[chosen])
        return LocalizationBatch(reports, self.truth[chosen], self.bound[chosen])

    def batches(self) -> Iterator[LocalizationBatch]:
        for start in range(0, len(self), BATCH):
            indices = list(range(start, min(start + BATCH, len(self))))
            yield self.batch(indices, [None] * len(indices))

    def all(self) -> LocalizationBatch:
        places = self.places.expand(len(self), -1, -1)
        return LocalizationBatch(Reports(self.values, places, self.detected), self.truth, self.bound)


def _places(network: Network, arrays: dict[str, NDArray]) -> NDArray[np.float32]:
    if PLACES[0] in arrays:  # each sample has a network of its own
        return np.stack([arrays[name] for name in PLACES], axis=2).astype(np.float32)
    return np.column_stack([network.positions_km, network.rises_km])[None].astype(np.float32)


class Recipe(TrainingRecipe):
    config: Config

    @cached_property
    def scene(self) -> Scene:
        return Scene.of(self.config, self.scratch)

    @cached_property
    def _calibration(self) -> Calibration:
        return Calibration()

    @cached_property
    def _drawn(self) -> RadioSamples | None:
        """For the sizes of the ellipses; None where the validation is too small to be worth it."""
        scene, config = self.scene, self.config
        validation = scene.parts(config) == dataset.SPLITS.index("validation")
        wanted = min(int(validation.sum()), MOST_OF_A_NUMBER)
        if wanted < FEWEST_OF_A_NUMBER:
            return None
        arrays = drawn(scene.settings, scene.seed, wanted)
        return RadioSamples(scene.network, arrays)

    @cached_property
    def _training(self) -> RadioSamples:
        return self.scene.part(self.config, "train")

    def training_samples(self) -> Samples:
        return self._training

    def validation_samples(self) -> Samples | None:
        samples = self.scene.part(self.config, "validation")
        return samples if len(samples) else None

    def model(self) -> nn.Module:
        model = build(self.config)
        samples = self._training.all()
        model.fit_normalisation(samples.reports, samples.truth)
        return model

    def parts(self) -> dict[str, Part]:
        """A checkpoint says for which receivers its network is, also where a dataset said it, and how large its
        ellipses are."""
        return {"scene": self.scene, "calibration": self._calibration}

    def loss(self, model: nn.Module, batch: LocalizationBatch) -> tuple[Tensor, dict[str, Tensor]]:
        answer: NetworkOutput = model(batch.reports)
        loss = tempered_loss(answer.refined, batch.truth).mean()
        if answer.refined is answer.unrefined:
            return loss, {}
        first = tempered_loss(answer.unrefined, batch.truth).mean()
        # The two networks share no weight. The value is the loss of the answer; the gradient is that of both.
        return loss + (first - first.detach()), {"unrefined_loss": first}

    def evaluation(self) -> Evaluation:
        return LocalizationEvaluation(self)

    def scheduler(self, optimizer: Optimizer, plan: Plan) -> Schedule:
        return LowestRate(optimizer, plan, kind=self.config.lr_scheduler)

    def fingerprint(self, training: Samples, validation: Samples | None) -> str:
        """What the manifest or the settings say, and some of the samples: another machine might make others."""
        content = super().fingerprint(training, validation)
        return hashlib.sha256(f"{self.scene.fingerprint} {content}".encode()).hexdigest()


class LowestRate(Schedule):
    """The cosine ends at 1 % of the learning rate instead of zero."""

    def _factor(self) -> float:
        factor = super()._factor()
        if not self._cosine or self._steps < self._plan.warmup_steps:
            return factor
        return LOWEST_RATE + (1.0 - LOWEST_RATE) * factor


class LocalizationEvaluation(Evaluation):
    """Distances in metres over all validation samples, the score against the bound, and the calibration."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._recipe = recipe
        self._scene = recipe.scene
        self._calibration = recipe._calibration
        self._refines = recipe.config.refinements > 0
        self._seen: list[tuple[Tensor, ...]] = []
        self._model: nn.Module | None = None

    def update(self, model: nn.Module, batch: LocalizationBatch, samples: int) -> None:
        self._model = model
        answer: NetworkOutput = model(batch.reports)
        refined, unrefined = answer
        means = {
            "loss": tempered_loss(refined, batch.truth).mean(),
            "nll": negative_log_likelihood(refined, batch.truth).mean(),
        }
        self.add(means, samples)
        heard = batch.reports.detected.sum(dim=1)
        kept = (refined.mean, refined.covariance(), unrefined.mean, batch.truth, batch.bound, heard)
        self._seen.append(tuple(tensor.cpu() for tensor in kept))

    @property
    def can_be_split(self) -> bool:
        return True

    def partial(self) -> dict[str, Any]:
        seen = [torch.cat(parts) for parts in zip(*self._seen, strict=True)]
        return super().partial() | {"seen": seen}

    def take_together(self, partials: list[dict[str, Any]]) -> None:
        super().take_together(partials)
        self._seen = [tuple(partial["seen"]) for partial in partials if partial["seen"]]

    @cached_property
    def _all(self) -> list[NDArray]:
        *found, heard = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        return [*(tensor.double().numpy() for tensor in found), heard.numpy()]

    @cached_property
    def _distances(self) -> Distances:
        positions, covariances, _, truth, _, heard = self._all
        return Distances(mahalanobis_squared(positions, covariances, truth), heard)

    @cached_property
    def _more(self) -> Distances:
        samples = self._recipe._drawn
        return NONE if samples is None or self._model is None else distances_of(self._model, samples)

    def result(self) -> dict[str, float]:
        positions, covariances, unrefined, truth, bounds, _ = self._all
        found = score(positions, covariances, truth, bounds)
        # From here on the training's ellipses are those of this validation. Nothing stops between this and the
        # epoch's end, so no checkpoint has one without the other.
        self._calibration.fit(self._distances, self._more)
        self._unseen = unseen_coverage(self._distances, self._more)
        return super().result() | {
            "val_rmse": found.rmse_m,
            "val_p50": found.p50_m,
            "val_p68": found.p68_m,
            "val_p95": found.p95_m,
            "val_score": found.score,
            "val_coverage_68": self._unseen[0.68],
            "val_coverage_95": self._unseen[0.95],
            "val_stated_coverage_68": found.coverage_68,
            "val_stated_coverage_95": found.coverage_95,
            "val_unrefined_p50": score(unrefined, covariances, truth, bounds).p50_m,
        }

    def artifact(self) -> dict[str, Any]:
        positions, covariances, unrefined, truth, bounds, heard = self._all
        return artifact(
            self._scene.network,
            self._scene.settings,
            positions,
            covariances,
            truth,
            bounds,
            heard=heard,
            calibration=self._calibration,
            unseen_coverage=self._unseen,
            unrefined_km=unrefined if self._refines else None,
        )


def distances_of(model: nn.Module, samples: RadioSamples) -> Distances:
    """By the network itself, whatever stands round it to train on several devices."""
    network = model if isinstance(model, LocalizationNetwork) else model.module
    device = network.feature_mean.device
    squared, heard = [], []
    with torch.no_grad():
        for batch in samples.batches():
            answer = network(Reports(*(tensor.to(device) for tensor in batch.reports))).refined
            mean, covariance = answer.mean.cpu().double().numpy(), answer.covariance().cpu().double().numpy()
            squared.append(mahalanobis_squared(mean, covariance, batch.truth.numpy()))
            heard.append(batch.reports.detected.sum(dim=1).numpy())
    return Distances(np.concatenate(squared), np.concatenate(heard))


def build(config: Config) -> LocalizationNetwork:
    return LocalizationNetwork(
        width=config.width,
        heads=config.heads,
        layers=config.layers,
        dropout=config.dropout,
        refinements=config.refinements,
    )


def load(parts: dict[str, Any], config: Config) -> LocalizationNetwork:
    """The network of a checkpoint's parts, ready to answer; the averaged weights where there are some."""
    network = build(config)
    network.load_state_dict(parts["ema"]["model"] if "ema" in parts else parts["model"])
    return network.eval()
