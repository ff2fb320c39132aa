"""The network beside the classical estimators and the bound, on the same samples."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heimdall import codec
from heimdall.recipes.localization import baselines, kinds
from heimdall.recipes.localization.calibration import Calibration
from heimdall.recipes.localization.config import Config
from heimdall.recipes.localization.drawn import drawn
from heimdall.recipes.localization.generator import FIELDS, PLACES
from heimdall.recipes.localization.geometry import Network
from heimdall.recipes.localization.network import Estimate, LocalizationNetwork
from heimdall.recipes.localization.random_networks import networks_in, samples_of
from heimdall.recipes.localization.recipe import RadioSamples, Recipe, distances_of, load
from heimdall.recipes.localization.score import (
    SHARES,
    Score,
    ellipse_radius_squared,
    mahalanobis_squared,
    score,
)
from heimdall.recipes.localization.settings import RadioSettings

PACKAGE = __name__.rpartition(".")[0]
NETWORK = "network"
PLAIN = "Gauss-Newton on timing, plain"
CAREFUL = "Gauss-Newton on timing, careful"
LATE_NOTE = "Late arrivals are on; the bound is the one without them."


class NotALocalization(ValueError):
    """The checkpoint is of another recipe."""


class NoTestPart(ValueError):
    """The samples that were kept from the training are not to be had."""


@dataclass(frozen=True)
class Trained:
    network: LocalizationNetwork
    calibration: Calibration
    config: Config
    settings: RadioSettings
    seed: int
    """Of the samples that it was trained with."""
    about: dict[str, Any]


@dataclass(frozen=True)
class EvaluationRow:
    name: str
    score: Score
    positions_km: NDArray[np.float64]
    covariances_km2: NDArray[np.float64]


@dataclass(frozen=True)
class Evaluated:
    rows: tuple[EvaluationRow, ...]
    """The network's first."""
    calibration: Calibration
    truth_km: NDArray[np.float64]
    bounds_m: NDArray[np.float64]
    heard: NDArray[np.integer]
    """By how many receivers."""
    notes: tuple[str, ...]

    def reach_squared(self, share: float) -> NDArray[np.float64]:
        """How far each sample's ellipse for this share reaches, as a squared Mahalanobis distance."""
        return self.calibration.reach_squared(share, self.heard)


def open_checkpoint(path: str | Path) -> Trained:
    """The network of a checkpoint file, with the config that it was trained with."""
    digest = codec.verify(path).digest
    parts, about = codec.load(path, digest=digest)
    if about.get("recipe") != PACKAGE:
        raise NotALocalization(f"The checkpoint is of the recipe {about.get('recipe')}, not of {PACKAGE}.")
    config = Config.model_validate_json(json.dumps(about["config"]))
    scene = parts["recipe_scene"]
    settings = RadioSettings.of_file(scene["settings"])
    calibration = Calibration()
    calibration.load_state_dict(parts.get("recipe_calibration", {}))
    return Trained(
        load(parts, config), calibration, config, settings, scene["seed"], about | {"digest": digest}
    )


def use_threads(count: int) -> None:
    torch.set_num_threads(count)


def fresh_samples(settings: RadioSettings, *, seed: int, samples: int) -> dict[str, NDArray]:
    """Of a seed that the network should not have seen."""
    return samples_of(settings, seed).samples(0, samples).arrays


def test_part(trained: Trained, scratch: Path) -> dict[str, NDArray]:
    """The samples that the training kept aside: neither weights nor ellipses nor the choice of the epoch saw them.

    scratch: where a dataset was brought to, as for a training.
    """
    recipe = Recipe(trained.config, scratch)
    arrays = recipe.scene.arrays_of(trained.config, "test")
    if not len(arrays["detected"]):
        raise NoTestPart("The training kept no test part: its test_split is 0. Evaluate on a fresh seed.")
    pinned = trained.about.get("environment", {}).get("data_fingerprint")
    found = recipe.fingerprint(recipe.training_samples(), recipe.validation_samples())
    if pinned and pinned != found:
        raise NoTestPart("The data are not those of the training: it may have seen their test part.")
    return arrays


def evaluate(
    network: LocalizationNetwork,
    settings: RadioSettings,
    arrays: dict[str, NDArray],
    *,
    calibration: Calibration,
) -> Evaluated:
    """The network and the classical estimators on these samples."""
    refined, unrefined = answers(network, RadioSamples(Network.of(settings), arrays))
    estimators: dict[str, Callable[[], baselines.Estimates]] = {
        NETWORK: lambda: refined,
        "network, unrefined": lambda: unrefined,
        PLAIN: lambda: of_each_network(baselines.plain_gauss_newton_on_timing, settings, arrays),
        CAREFUL: lambda: of_each_network(baselines.gauss_newton_on_timing, settings, arrays),
        "Levenberg-Marquardt on strength": lambda: of_each_network(
            partial(baselines.levenberg_marquardt_on_strength, settings), settings, arrays
        ),
        "centroid of the receivers": lambda: of_each_network(baselines.centroid, settings, arrays),
    }
    if network.refine is None:
        del estimators["network, unrefined"]
    truth, bounds = arrays["position_km"], arrays["bound_m"].astype(np.float64)
    heard = arrays["detected"].sum(axis=1)
    rows = []
    for name, estimator in estimators.items():
        found = estimator()
        positions, covariances = found.positions_km, found.covariances_km2
        sizes = partial(calibration.reach_squared, heard=heard) if name == NETWORK else ellipse_radius_squared
        scored = score(positions, covariances, truth, bounds, radius_squared=sizes)
        rows.append(EvaluationRow(name, scored, positions, covariances))
    notes = (LATE_NOTE,) if settings.late_arrivals else ()
    return Evaluated(tuple(rows), calibration, truth, bounds, heard, notes)


def of_each_network(
    estimator: Callable[[Network, dict[str, NDArray]], baselines.Estimates],
    settings: RadioSettings,
    arrays: dict[str, NDArray],
) -> baselines.Estimates:
    """A classical estimator's answers, which knows one network at a time."""
    count = len(arrays["detected"])
    positions, covariances = np.zeros((count, 2)), np.zeros((count, 2, 2))
    for network, chosen in networks_in(settings, arrays):
        found = estimator(network, {name: _columns(arrays, name, network.size)[chosen] for name in arrays})
        positions[chosen], covariances[chosen] = found.positions_km, found.covariances_km2
    return baselines.Estimates(positions, covariances)


def _columns(arrays: dict[str, NDArray], name: str, receivers: int) -> NDArray:
    """Without the columns in which no receiver of the network stands."""
    field = {**FIELDS, **PLACES}[name]
    return arrays[name][:, :receivers] if field.per_receiver else arrays[name]


def answers(
    network: LocalizationNetwork, samples: RadioSamples
) -> tuple[baselines.Estimates, baselines.Estimates]:
    """The refined and the unrefined estimates."""
    found = []
    network.eval()
    with torch.no_grad():
        found += [network(batch.reports) for batch in samples.batches()]
    return _joined(answer.refined for answer in found), _joined(answer.unrefined for answer in found)


def table(evaluated: Evaluated, more: Iterable[EvaluationRow] = ()) -> str:
    """A table in Markdown, the bound in its last row, others before it."""
    header = (
        "estimator", "median, m", "p68, m", "p95, m", "score", "p68 score", "p95 score", "in 68 %", "in 95 %",
    )  # fmt: skip
    lines = [header, ("---", *["---:"] * (len(header) - 1))]
    for row in (*evaluated.rows, *more):
        found = row.score
        metres = (found.p50_m, found.p68_m, found.p95_m)
        scores = (found.score, found.score_p68, found.score_p95)
        shares = (found.coverage_68, found.coverage_95)
        lines.append(
            (
                row.name,
                *(f"{value:.1f}" for value in metres),
                *(f"{value:.3f}" for value in scores),
                *(f"{100 * value:.1f} %" for value in shares),
            )
        )
    percentiles = np.percentile(evaluated.bounds_m, [50, 68, 95])
    lines.append(("Cramer-Rao bound", *(f"{value:.1f}" for value in percentiles), *["1.000"] * 3, "", ""))
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([text, *evaluated.notes])


def remarks(trained: Trained, evaluated: Evaluated, *, seed: int | None) -> str:
    """What was compared, so that anybody can do it again, and how the tails compare. Seed None: on the test part."""
    p95 = {row.name: row.score.p95_m for row in evaluated.rows}
    apart = [f"{difference(p95[NETWORK], p95[name])} {name}" for name in (PLAIN, CAREFUL)]
    seen = "its own test part" if seed is None else f"seed {seed}"
    return (
        f"p95 of the network: {apart[0]}, {apart[1]}. {len(evaluated.truth_km)} samples of {seen}. "
        f"{about_training(trained)}"
    )


def about_training(trained: Trained) -> str:
    config = trained.config
    source = f"dataset {config.dataset}" if config.dataset else f"seed {trained.seed}"
    return (
        f"Trained on {config.samples} samples of {source} (training, validation and test parts) with seed "
        f"{config.seed}: {trained.about['epoch']} epochs, batches of {config.batch_size}, learning rate "
        f"{config.learning_rate:g}."
    )


def difference(ours: float, theirs: float) -> str:
    """How far one lies below or above another."""
    percent = 100 * (1 - ours / theirs)
    return f"{abs(percent):.0f} % {'below' if percent >= 0 else 'above'}"


def about_ellipses(evaluated: Evaluated) -> str:
    """Where the sizes of the network's ellipses come from."""
    calibration = evaluated.calibration
    if not calibration.samples:
        return "The checkpoint holds no calibration: its ellipses are as large as the network itself states."
    numbers = sorted(set(evaluated.heard.tolist()))
    factors = [
        " and ".join(
            f"{np.sqrt(calibration.radius_squared(one, number) / ellipse_radius_squared(one)):.2f}"
            for one in SHARES
        )
        + f" (heard by {number})"
        for number in numbers
    ]
    return (
        f"The network's ellipses are as large as {calibration.samples} validation samples ask for, and more of each "
        "number of receivers. So many times what the network itself states they are for 68 % and 95 %: "
        f"{', '.join(factors)}."
    )


def table_of_kinds(evaluated: Evaluated, arrays: dict[str, NDArray]) -> str:
    """What the network's ellipses hold of each kind of station."""
    positions, covariances = evaluated.rows[0].positions_km, evaluated.rows[0].covariances_km2
    squared = mahalanobis_squared(positions, covariances, evaluated.truth_km)
    return kinds.table(squared, covariances, arrays, evaluated.calibration)


def table_of_numbers(trained: Trained, seed: int, wanted: int) -> str:
    """What they hold of stations that so many receivers hear, over as many of each as can be drawn."""
    samples = RadioSamples(Network.of(trained.settings), drawn(trained.settings, seed, wanted))
    return kinds.table_of_numbers(distances_of(trained.network, samples), trained.calibration)


def write_between(text: str, name: str, content: str) -> str:
    """The text with the content between the comments that name its place."""
    begin, end = f"<!-- evaluate {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"There is no place {begin.strip()} ... {end} in the text.")
    return f"{before}{begin}{content}\n{end}{after}"


def _joined(estimates: Iterable[Estimate]) -> baselines.Estimates:
    means, covariances = zip(*((found.mean, found.covariance()) for found in estimates), strict=True)
    return baselines.Estimates(torch.cat(means).numpy(), torch.cat(covariances).numpy())
